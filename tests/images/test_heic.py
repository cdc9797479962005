"""HEIC, as iPhones write it, is decoded as the other formats are, within their bounds."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from gateway.errors import ImageError, ImageTooLarge, UnsupportedImage
from gateway.images.header import open_image, read_header
from tests.images.conftest import Loading
from tests.images.pictures import data_url, encoded, noisy
from tests.images.test_formats import BLUE, GREEN, RED, SIDE, WHITE, all_are, corners

Make = Callable[..., Loading]
CLOSE = 6  # of 255: HEVC keeps brightness and colour, not red, green and blue


def heic(image: Image.Image, *others: Image.Image, exif: Image.Exif | None = None, **options: Any) -> bytes:
    """Encode pictures. The writer turns the orientation of Exif, as bytes, into the file's own."""
    written = pillow_heif.from_pillow(image)
    for other in others:
        written.add_from_pillow(other)
    out = io.BytesIO()
    told = {} if exif is None else {"exif": exif.tobytes()}
    written.save(out, **{"quality": -1, "chroma": 444, **told, **options})
    return out.getvalue()


def large() -> Image.Image:
    return corners().resize((64, 64), Image.Resampling.NEAREST)


async def seen(loading: Make, data: bytes, **settings: Any) -> np.ndarray:
    picture = await loading(**settings).load(data_url(data), side=SIDE)
    return np.asarray(picture.pixels)


def close(pixels: np.ndarray, image: Image.Image) -> bool:
    wanted = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return bool(np.abs(pixels.astype(int) - wanted).max() <= CLOSE)


async def test_colours_come_out(loading: Make) -> None:
    assert close(await seen(loading, heic(large())), large())
    one = loading()
    await one.load(data_url(heic(large()), "application/octet-stream"))
    assert one.count("gateway_images_total", source="data", format="heic") == 1


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_it_is_turned_once(loading: Make, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = heic(large(), exif=exif)
    assert (b"irot" in data or b"imir" in data) == (orientation != 1)
    by_png = Image.fromarray(await seen(loading, encoded(large(), exif=exif)))
    assert close(await seen(loading, data), by_png)


async def test_a_wide_one_that_is_turned_keeps_its_shape(loading: Make) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = noisy(120, 40)
    pictures = [
        await loading().load(data_url(data), side=56, fit="pad")
        for data in (heic(wide, exif=exif), encoded(wide, exif=exif))
    ]
    one, other = (np.asarray(picture.pixels).astype(int) for picture in pictures)
    assert np.abs(one - other).max() <= CLOSE


async def test_tiles_ten_bits_grey_and_alpha_come_out(loading: Make) -> None:
    grid = heic(noisy(700, 600), tile_size=256)
    assert b"grid" in grid
    assert close(await seen(loading, grid), Image.fromarray(await seen(loading, encoded(noisy(700, 600)))))
    deep = pillow_heif.from_bytes("RGB;16", (8, 8), np.full((8, 8, 3), 90 * 257, np.uint16).tobytes())
    out = io.BytesIO()
    deep.save(out, quality=-1)
    assert all_are(await seen(loading, out.getvalue()), (90, 90, 90), within=2)
    assert all_are(await seen(loading, heic(Image.new("L", (8, 8), 90))), (90, 90, 90), within=2)
    assert all_are(await seen(loading, heic(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))), WHITE, within=2)


async def test_of_several_pictures_the_primary_one_is_taken(loading: Make) -> None:
    pictures = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    for index, colour in enumerate((RED, GREEN, BLUE)):
        data = heic(*pictures, primary_index=index)
        assert all_are(await seen(loading, data), colour, within=CLOSE)


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.5, 0.9])
async def test_a_file_cut_off_is_an_image_error(loading: Make, keep: float) -> None:
    data = heic(noisy(64, 64))
    with pytest.raises(ImageError, match="the image is broken or cut off") as caught:
        await seen(loading, data[: int(len(data) * keep)])
    assert type(caught.value) is ImageError


async def test_pixels_are_limited_before_they_are_decoded(loading: Make) -> None:
    data = heic(Image.new("RGB", (300, 200)))
    with pytest.raises(ImageTooLarge, match=r"300 x 200 = 60000 pixels; the limit is 59999"):
        await seen(loading, data, image_max_pixels=59_999)
    at = data.index(b"ispe") + 8
    larger = data[:at] + struct.pack(">II", 30_000, 20_000) + data[at + 8 :]
    with pytest.raises(ImageTooLarge, match="30000 x 20000"):
        await seen(loading, larger)
    smaller = data[:at] + struct.pack(">II", 1, 1) + data[at + 8 :]
    with pytest.raises(ImageError):
        await seen(loading, smaller)


def test_the_header_is_bounded() -> None:
    data = heic(large())
    with pytest.raises(ImageTooLarge, match="the HEIC image has more than 64 boxes"):
        open_image(data + b"\0\0\0\x08free" * 64, max_pixels=10**6)
    at = data.index(b"meta") - 4
    with pytest.raises(ImageTooLarge, match="the HEIC image's header has 99999 bytes; the limit is 65536"):
        open_image(data[:at] + struct.pack(">I", 99_999) + data[at + 4 :], max_pixels=10**6)


def test_heif_of_other_codecs_and_sequences_are_told_apart() -> None:
    av1 = encoded(corners(), "AVIF")
    length = int.from_bytes(av1[:4], "big")
    heif = b"\0\0\0\x14ftypmif1\0\0\0\0mif1" + av1[length:]
    with pytest.raises(UnsupportedImage, match=r"the image is a HEIF without HEVC \(HEIC\) in it"):
        read_header(heif, max_pixels=10**6)
    with pytest.raises(UnsupportedImage, match="this is a HEIC sequence; send a JPEG or PNG"):
        read_header(b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + bytes(100), max_pixels=10**6)
