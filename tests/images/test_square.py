"""The pixels of `pad` and `crop` against those who define them."""

import re
from pathlib import Path

import pytest
from PIL import Image

from gateway.images.decode import Rendition
from gateway.images.square import shrink_factor, square
from gateway.settings import Fit
from tests.images.originals import original_crop, original_pad
from tests.images.pictures import difference, photograph

SIDE = 336
SIZES = [
    (640, 427),
    (427, 640),
    (512, 512),
    (1001, 335),
    (335, 1001),
    (200, 100),
    (101, 200),
    (336, 336),
    (7, 5),
]


def fitted(image: Image.Image, fit: Fit, side: int = SIDE) -> Image.Image:
    return square(Rendition(image, image.size), fit, side)


def peak_kib() -> int:
    """Return the most memory that this process has held, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1))


@pytest.mark.parametrize("size", SIZES)
def test_pad_is_the_originals_recipe_to_the_bit(size: tuple[int, int]) -> None:
    image = photograph("rocket.jpg").resize(size)
    assert difference(fitted(image, "pad"), original_pad(image, SIDE)).max() == 0


@pytest.mark.slow  # transformers takes seconds to import
@pytest.mark.parametrize("size", SIZES)
def test_crop_is_the_hubs_processor_to_the_bit(size: tuple[int, int]) -> None:
    image = photograph("rocket.jpg").resize(size)
    assert difference(fitted(image, "crop"), original_crop(image, SIDE)).max() == 0


@pytest.mark.parametrize("size", SIZES)
def test_squash_is_one_bicubic_resize(size: tuple[int, int]) -> None:
    image = photograph("rocket.jpg").resize(size)
    assert (
        difference(fitted(image, "squash"), image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).max() == 0
    )


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("side", [1, 14, 112])
def test_any_fit_of_any_picture_is_square(fit: Fit, side: int) -> None:
    for size in ((1, 1), (1, 50), (50, 1), (3, 2), (600, 400)):
        image = fitted(Image.new("RGB", size, "red"), fit, side)
        assert image.size == (side, side)
        assert image.mode == "RGB"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "within"), [((5800, 500), 0), ((500, 5800), 1), ((5801, 9), 0), ((9, 5801), 1)]
)
def test_pad_of_an_elongated_picture_is_true_to_the_recipe(size: tuple[int, int], within: int) -> None:
    image = photograph("rocket.jpg").resize(size)
    assert difference(fitted(image, "pad"), original_pad(image, SIDE)).max() <= within


@pytest.mark.slow  # transformers again
@pytest.mark.parametrize("size", [(60, 25000), (25000, 60)])
def test_crop_of_an_elongated_picture_differs_by_1_of_255_at_most(size: tuple[int, int]) -> None:
    image = photograph("rocket.jpg").resize(size)
    assert difference(fitted(image, "crop"), original_crop(image, SIDE)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (65_535, 300), (300, 65_535)])
def test_no_elongated_picture_takes_more_than_300_mb(fit: Fit, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    Path("/proc/self/clear_refs").write_text("5")  # Starts the peak anew (proc(5)).
    before = peak_kib()
    assert fitted(image, fit).size == (SIDE, SIDE)
    assert peak_kib() - before < 300 * 1024


def test_shrinking_leaves_twice_what_is_resized() -> None:
    assert shrink_factor((4000, 3000), "pad", SIDE) == 5
    assert shrink_factor((4000, 3000), "crop", SIDE) == 4
    assert shrink_factor((4000, 3000), "squash", SIDE) == 4
    assert shrink_factor((1343, 1343), "pad", SIDE) == 1
    assert shrink_factor((60_000, 1), "pad", SIDE) == 1
    assert shrink_factor((60_000, 300), "pad", SIDE) == 1
