"""The first page of a TIFF, as scanners and editors write it, is decoded within the other formats' bounds."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from gateway.errors import ImageError, ImageTooLarge, UnsupportedImage
from gateway.images.header import open_image, read_header
from tests.images.conftest import Loading
from tests.images.pictures import data_url, encoded, noisy
from tests.images.test_formats import BLUE, GREEN, RED, SIDE, WHITE, all_are, corners

Make = Callable[..., Loading]
SHORT, LONG = 3, 4
Tags = dict[int, tuple[int, int, int]]  # of each the type, the number of values, and the value or its place


async def seen(loading: Make, data: bytes, **settings: Any) -> np.ndarray:
    picture = await loading(**settings).load(data_url(data), side=SIDE)
    return np.asarray(picture.pixels)


def tiff(tags: Tags, rest: bytes = b"", order: str = "<") -> bytes:
    """Return a TIFF of one directory: of each tag the type, the number of values, the value or its place."""
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(rest)) + rest
    entries = b""
    for tag, (kind, count, value) in sorted(tags.items()):
        packed = (
            struct.pack(order + "HH", value, 0)
            if kind == SHORT and count == 1
            else struct.pack(order + "I", value)
        )
        entries += struct.pack(order + "HHI", tag, kind, count) + packed
    return head + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def grey(pixels: bytes, depth: int, colour: int, order: str = "<", more: Tags | None = None) -> bytes:
    """Return a TIFF of 2 x 2 grey pixels, uncompressed."""
    shorts = {256: 2, 257: 2, 258: depth, 259: 1, 262: colour, 277: 1, 278: 2}
    longs = {273: 8, 279: len(pixels)}
    tags = {tag: (SHORT, 1, value) for tag, value in shorts.items()}
    tags |= {tag: (LONG, 1, value) for tag, value in longs.items()}
    return tiff(tags | (more or {}), pixels, order)


def by_tifffile(pixels: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "tiff_lzw"},
        {"compression": "tiff_adobe_deflate"},
        {"compression": "tiff_deflate"},
        {"compression": "packbits"},
        {"compression": "tiff_lzw", "big_tiff": True},
        {"strip_size": 24},
    ],
    ids=str,
)
async def test_lossless_compressions_come_out_exactly(loading: Make, options: dict[str, Any]) -> None:
    assert (await seen(loading, encoded(corners(), "TIFF", **options)) == np.asarray(corners())).all()


async def test_tiles_planes_and_byte_orders_come_out_exactly(loading: Make) -> None:
    large = np.asarray(corners().resize((64, 64), Image.Resampling.NEAREST))
    wanted = await seen(loading, encoded(Image.fromarray(large)))
    for data in (
        by_tifffile(large, photometric="rgb", tile=(16, 16)),
        by_tifffile(large, photometric="rgb", tile=(16, 16), compression="deflate"),
        by_tifffile(large, photometric="rgb", byteorder=">"),
        by_tifffile(large.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        by_tifffile(large.astype(np.uint16) * 257, photometric="rgb"),
        by_tifffile(large.astype(np.uint16) * 257, photometric="rgb", byteorder=">", compression="deflate"),
    ):
        assert (await seen(loading, data) == wanted).all()


async def test_jpeg_within_and_cmyk_show_their_colours(loading: Make) -> None:
    red = Image.new("RGB", (16, 16), RED)
    assert all_are(await seen(loading, encoded(red, "TIFF", compression="jpeg")), RED, within=3)
    assert all_are(
        await seen(loading, encoded(red.convert("YCbCr"), "TIFF", compression="jpeg")), RED, within=3
    )
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for compression in (None, "tiff_lzw"):
        assert all_are(await seen(loading, encoded(cmyk, "TIFF", compression=compression)), RED)


@pytest.mark.parametrize("compression", [None, "group3", "group4", "packbits"])
async def test_faxes_come_out(loading: Make, compression: str | None) -> None:
    page = Image.new("1", (SIDE, SIDE), 1)
    page.paste(0, (0, 0, 4, 8))
    pixels = await seen(loading, encoded(page, "TIFF", compression=compression))
    assert (pixels == np.asarray(page.convert("RGB"))).all()


async def test_palettes_and_alpha_come_out(loading: Make) -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 0, 255, 0])
    assert all_are(await seen(loading, encoded(palette, "TIFF", compression="tiff_lzw")), GREEN)
    for mode in ("RGBA", "LA"):
        clear = Image.new(mode, (4, 4))
        assert all_are(await seen(loading, encoded(clear, "TIFF", compression="tiff_lzw")), WHITE)


@pytest.mark.parametrize("order", ["<", ">"])
async def test_16_bit_grey_is_scaled_and_white_may_be_0(loading: Make, order: str) -> None:
    pixels = struct.pack(order + "4H", *[300 * 64] * 4)
    assert all_are(await seen(loading, grey(pixels, 16, 1, order)), (75, 75, 75))
    if order == "<":
        assert all_are(await seen(loading, grey(pixels, 16, 0, order)), (180, 180, 180))
    assert all_are(await seen(loading, grey(bytes([75] * 4), 8, 0, order)), (180, 180, 180))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
async def test_orientation_is_applied_once(loading: Make, orientation: int, compression: str | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    by_png = await loading().load(data_url(encoded(noisy(40, 24), exif=exif)), fit="pad")
    stored = encoded(noisy(40, 24), "TIFF", exif=exif, compression=compression)
    by_tiff = await loading().load(data_url(stored), fit="pad")
    assert by_tiff.pixels.tobytes() == by_png.pixels.tobytes()


async def test_of_several_pages_the_first_is_taken(loading: Make) -> None:
    pages = [Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED, BLUE)]
    one = loading()
    picture = await one.load(data_url(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:] * 30)))
    assert all_are(np.asarray(picture.pixels), GREEN)
    assert one.count("gateway_images_total", source="data", format="tiff") == 1


async def test_a_page_that_leads_back_to_itself_is_read_once(loading: Make) -> None:
    data = grey(bytes([75] * 4), 8, 1)
    assert all_are(await seen(loading, data[:-4] + struct.pack("<I", 12)), (75, 75, 75))


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
async def test_a_file_cut_off_is_an_image_error(loading: Make, keep: float, compression: str | None) -> None:
    data = encoded(noisy(64, 64), "TIFF", compression=compression)
    with pytest.raises(ImageError, match="the image is broken or cut off") as caught:
        await seen(loading, data[: max(8, int(len(data) * keep))])
    assert type(caught.value) is ImageError


SIZE = {256: (LONG, 1, 8000), 257: (LONG, 1, 8001)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(SIZE), "the image has 8000 x 8001 = 64008000 pixels; the limit is 64000000"),
        (tiff({256: (LONG, 1, 70_000), 257: (LONG, 1, 1)}), "70000 x 1 pixels; the limit is 65535 per side"),
        (
            tiff(dict.fromkeys(range(1, 1002), (SHORT, 1, 1))),
            "the TIFF image has 1001 tags; the limit is 1000",
        ),
        (
            grey(bytes(4), 8, 1, more={273: (LONG, 70_000, 8)}),
            "has 70000 strips or tiles; the limit is 65536",
        ),
        (
            grey(bytes(4), 8, 1, more={322: (LONG, 1, 2**31), 323: (LONG, 1, 2**31)}),
            "tiles of 4611686018427387904 pixels",
        ),
    ],
    ids=["pixels", "side", "tags", "strips", "tiles"],
)
def test_bombs_are_refused_by_their_header(data: bytes, message: str) -> None:
    with pytest.raises(ImageTooLarge, match=message):
        read_header(data, max_pixels=64_000_000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (grey(bytes(4), 8, 1, more={259: (SHORT, 1, 34712)}), "the TIFF image has compression 34712"),
        (grey(bytes(4), 8, 8), "the TIFF image has colour space 8"),
        (grey(bytes(16), 32, 1), "the TIFF image has sample depth 32"),
        (grey(bytes(8), 16, 1, more={339: (SHORT, 1, 2)}), "the TIFF image has sample format 2"),
        (grey(bytes(4), 8, 1, more={50706: (LONG, 1, 1)}), "this is a camera's raw file; send a JPEG or PNG"),
    ],
)
def test_what_is_not_read_is_named(data: bytes, message: str) -> None:
    with pytest.raises(UnsupportedImage, match=message):
        open_image(data, max_pixels=100)
