"""`fast` is as good as `exact` for the eye of the model."""

from io import BytesIO

import pytest
from PIL import Image

from gateway.images.decode import decode
from gateway.images.header import open_image
from gateway.images.square import shrink_factor, square
from gateway.settings import Fit
from tests.images.pictures import PHOTOGRAPHS, difference, encoded, photograph

pytestmark = pytest.mark.slow

MEAN_OF_255 = 0.6
SIDE = 336


def fitted(data: bytes, fit: Fit, *, fast: bool) -> Image.Image:
    image = open_image(data, max_pixels=64_000_000)
    return square(decode(image, shrink=shrink_factor(image.size, fit, SIDE) if fast else 1), fit, SIDE)


def both(data: bytes, fit: Fit) -> tuple[Image.Image, Image.Image]:
    """Return the picture as `fast` and as `exact` see it."""
    assert shrink_factor(open_image(data, max_pixels=64_000_000).size, fit, SIDE) > 1
    return fitted(data, fit, fast=True), fitted(data, fit, fast=False)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("size", [(3000, 2000), (2003, 3001)])
def test_photographs_differ_by_0_6_of_255_on_average_at_most(name: str, size: tuple[int, int]) -> None:
    image = photograph(name).resize(size, Image.Resampling.BICUBIC)
    data = encoded(image, "JPEG", quality=90)
    for fit in ("pad", "crop", "squash"):
        fast, exact = both(data, fit)
        assert difference(fast, exact).mean() <= MEAN_OF_255


@pytest.mark.parametrize("name", PHOTOGRAPHS[:2])
def test_large_pngs_differ_by_as_little(name: str) -> None:
    image = photograph(name).resize((2003, 1507), Image.Resampling.BICUBIC)
    for mode in ("RGB", "L", "RGBA"):
        fast, exact = both(encoded(image.convert(mode), compress_level=1), "pad")
        assert difference(fast, exact).mean() <= MEAN_OF_255


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_differ_by_as_little(mode: str) -> None:
    image = photograph("coffee.png").resize((2003, 1507), Image.Resampling.BICUBIC).convert(mode)
    fast, exact = both(encoded(image, "JPEG", quality=90), "pad")
    assert difference(fast, exact).mean() <= MEAN_OF_255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_turned_pictures_whose_size_no_factor_divides_stay_in_place(orientation: int, fit: Fit) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = photograph("chelsea.png").resize((2695, 1351), Image.Resampling.BICUBIC)
    fast, exact = both(encoded(image, "JPEG", quality=90, exif=exif), fit)
    assert difference(fast, exact).mean() <= MEAN_OF_255


@pytest.mark.parametrize("height", [12, 65, 129, 400])
def test_narrow_pictures_keep_their_edges(height: int) -> None:
    image = photograph("coffee.png").resize((8000, height), Image.Resampling.BICUBIC)
    for data in (encoded(image, "JPEG", quality=90), encoded(image, compress_level=1)):
        fast, exact = (fitted(data, "pad", fast=fast) for fast in (True, False))
        assert difference(fast, exact).max() <= 12  # 48 where only the long side is looked at.


def test_what_is_small_is_decoded_in_full() -> None:
    data = encoded(photograph("rocket.jpg"), "JPEG", quality=90)
    image = open_image(data, max_pixels=10**6)
    rendition = decode(image, shrink=shrink_factor(image.size, "pad", SIDE))
    with Image.open(BytesIO(data)) as expected:
        assert difference(rendition.pixels, expected).max() == 0
    assert rendition.factor == 1
