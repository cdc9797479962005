"""The limit of a JPEG follows what it costs to decode: a phone's 200 megapixels cost little at an eighth."""

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from gateway.errors import ImageError, ImageTooLarge
from gateway.images.header import memory_for, open_image, read_header
from tests.images.conftest import Loading
from tests.images.pictures import data_url, encoded

Make = Callable[..., Loading]
PHONE = Image.new("L", (1600, 1200))  # of which 56 x 56 are made: at an eighth


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    """Return the JPEG with another size in its header."""
    at = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2")) + 5
    return jpeg[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + jpeg[at + 4 :]


async def test_a_jpeg_decoded_at_an_eighth_may_have_four_times_the_pixels(loading: Make) -> None:
    url = data_url(encoded(PHONE, "JPEG"))
    picture = await loading(image_max_pixels=480_000).load(url)
    assert picture.pixels.size == (56, 56)
    with pytest.raises(ImageTooLarge, match="1600 x 1200 = 1920000 pixels; the limit is 1919996"):
        await loading(image_max_pixels=479_999).load(url)


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (encoded(PHONE, "JPEG"), {"image_decode": "exact"}),
        (encoded(PHONE, "JPEG", progressive=True), {}),
        (encoded(PHONE.resize((1600, 800)), "JPEG"), {}),  # a quarter is what it may be shrunk by
        (encoded(PHONE, "PNG"), {}),
    ],
    ids=["exact", "progressive", "at a quarter", "PNG"],
)
async def test_others_may_not(loading: Make, data: bytes, settings: dict[str, Any]) -> None:
    with pytest.raises(ImageTooLarge, match="the limit is 480000"):
        await loading(image_max_pixels=480_000, **settings).load(data_url(data))


@pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (16_320, 12_240)])
def test_phones_of_108_and_200_megapixels_are_within_the_default(width: int, height: int) -> None:
    small = Image.new("RGB", (64, 48))
    header = read_header(
        resized(encoded(small, "JPEG"), width, height), max_pixels=64_000_000, shrink=lambda _: 17
    )
    assert header.image is not None
    assert memory_for(header.image, 17) == 8 * -(-width * height // 64) + 2**20
    with pytest.raises(ImageTooLarge, match="the limit is 64000000"):
        open_image(
            resized(encoded(small, "JPEG", progressive=True), width, height),
            max_pixels=64_000_000,
            shrink=lambda _: 17,
        )


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_no_samples_is_broken(progressive: bool) -> None:
    jpeg = encoded(Image.new("RGB", (64, 48)), "JPEG", progressive=progressive)
    at = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2")) + 11  # of the first channel, across and down
    with pytest.raises(ImageError, match="broken"):
        open_image(jpeg[:at] + b"\0" + jpeg[at + 1 :], max_pixels=10**6)
