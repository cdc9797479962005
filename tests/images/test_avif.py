"""AVIF is decoded as the other formats are, within their bounds."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway.errors import ImageError, ImageTooLarge, UnsupportedImage
from gateway.images.avif import MAX_META
from gateway.images.header import open_image
from tests.growth import assert_quick
from tests.images.conftest import Loading
from tests.images.pictures import data_url, encoded
from tests.images.test_formats import SIDE, WHITE, all_are, corners

Make = Callable[..., Loading]
CLOSE = 6  # of 255: AVIF keeps brightness and colour, not red, green and blue


def avif(image: Image.Image, **options: Any) -> bytes:
    return encoded(image, "AVIF", **{"quality": 100, "subsampling": "4:4:4", **options})


async def seen(loading: Make, data: bytes, **settings: Any) -> np.ndarray:
    picture = await loading(**settings).load(data_url(data), side=SIDE)
    return np.asarray(picture.pixels)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def with_items(count: int) -> bytes:
    """Return a picture whose `meta` says of `count` further items that they are there."""
    data = avif(corners())
    start = data.index(b"iinf") - 4
    (length,) = struct.unpack_from(">I", data, start)
    (known,) = struct.unpack_from(">H", data, start + 12)
    item = struct.Struct(">B3sHH4sB")
    more = b"".join(box(b"infe", item.pack(2, b"", 10 + i, 0, b"Exif", 0)) for i in range(count))
    table = box(
        b"iinf", b"\1\0\0\0" + struct.pack(">I", known + count) + data[start + 14 : start + length] + more
    )
    meta = data.index(b"meta") - 4
    (meta_length,) = struct.unpack_from(">I", data, meta)
    grown = struct.pack(">I", meta_length + len(table) - length)
    return data[:meta] + grown + data[meta + 4 : start] + table + data[start + length :]


async def test_colours_come_out(loading: Make) -> None:
    difference = np.abs((await seen(loading, avif(corners()))).astype(int) - np.asarray(corners()))
    assert difference.max() <= CLOSE


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_orientation_is_applied(loading: Make, orientation: int) -> None:
    """The writer turns Exif's orientation into the file's own; the reader must turn the picture once."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    by_png = await seen(loading, encoded(corners(), exif=exif))
    by_avif = await seen(loading, avif(corners(), exif=exif))
    assert np.abs(by_avif.astype(int) - by_png).max() <= CLOSE


async def test_what_is_transparent_lies_on_white(loading: Make) -> None:
    assert all_are(await seen(loading, avif(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))), WHITE)
    half = await seen(loading, avif(Image.new("RGBA", (8, 8), (0, 0, 255, 128))))
    assert all_are(half, (127, 127, 255), within=CLOSE)


async def test_grey_keeps_its_shade(loading: Make) -> None:
    assert all_are(await seen(loading, encoded(Image.new("L", (8, 8), 90), "AVIF")), (90, 90, 90), within=2)


async def test_it_is_counted_by_its_name(loading: Make) -> None:
    one = loading()
    await one.load(data_url(avif(corners())))
    assert one.count("gateway_images_total", source="data", format="avif") == 1


async def test_the_brand_may_be_one_of_several(loading: Make) -> None:
    data = avif(corners())
    assert data[8:12] == b"avif"
    assert b"mif1" in data[16:32]
    await seen(loading, data[:8] + b"mif1" + data[12:])
    with pytest.raises(UnsupportedImage):
        await seen(loading, (data[:8] + b"heic" + data[12:16]).ljust(32, b"\0") + data[32:])


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.5, 0.9])
async def test_a_file_cut_off_is_an_image_error(loading: Make, keep: float) -> None:
    data = avif(Image.effect_noise((64, 64), 80).convert("RGB"))
    with pytest.raises(ImageError, match="the image is broken or cut off"):
        await seen(loading, data[: int(len(data) * keep)])


@pytest.mark.parametrize("rest", [b"", b"\0" * 64, b"\xff" * 64, bytes(range(256)), b"\0\0\0\4meta"])
async def test_garbage_behind_a_right_start_is_an_image_error(loading: Make, rest: bytes) -> None:
    with pytest.raises(ImageError):
        await seen(loading, box(b"ftyp", b"avif\0\0\0\0avifmif1") + rest)


async def test_pixels_are_limited_before_they_are_decoded(loading: Make) -> None:
    data = avif(Image.new("RGB", (300, 200)))
    with pytest.raises(ImageTooLarge, match=r"300 x 200 = 60000 pixels; the limit is 59999"):
        await seen(loading, data, image_max_pixels=59_999)


async def test_a_sequence_is_refused(loading: Make) -> None:
    frames = [corners(), corners().rotate(90)]
    data = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImage, match="only still AVIF images are supported"):
        await seen(loading, data)


def test_a_header_of_many_items_is_read_in_no_time_or_refused() -> None:
    """Unbounded, 50,000 items in a megabyte take libavif 8 s, in which Python does nothing else."""
    most = with_items(MAX_META // 25)
    assert open_image(most, max_pixels=64).size == (8, 8)
    assert_quick(lambda: open_image(most, max_pixels=64), 1)
    with pytest.raises(ImageTooLarge, match=r"the AVIF image's header has \d+ bytes; the limit is 65536"):
        open_image(with_items(50_000), max_pixels=64)


async def test_pixels_that_are_not_where_the_header_says_are_an_image_error(loading: Make) -> None:
    with pytest.raises(ImageError, match="the image is broken or cut off"):
        await seen(loading, with_items(1))


async def test_many_boxes_are_refused(loading: Make) -> None:
    with pytest.raises(ImageTooLarge, match="more than 64 boxes"):
        await seen(loading, avif(corners()) + box(b"free", b"") * 64)
