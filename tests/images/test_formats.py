"""What a person would see is what the model gets, whatever the file is made of."""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway.errors import ImageError, UnsupportedImage
from tests.each import each
from tests.images.conftest import PARAM, Loading
from tests.images.pictures import data_url, encoded, png, url_of

Make = Callable[..., Loading]

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
SIDE = 8


async def seen(loading: Make, url: str) -> np.ndarray:
    picture = await loading().load(url, side=SIDE)
    assert picture.pixels.mode == "RGB"
    assert picture.pixels.size == (SIDE, SIDE)
    return np.asarray(picture.pixels)


def all_are(pixels: np.ndarray, colour: tuple[int, int, int], within: int = 0) -> bool:
    return bool((np.abs(pixels.astype(int) - colour) <= within).all())


def corners() -> Image.Image:
    """Red and green above, blue and white below, each 4 x 4."""
    image = Image.new("RGB", (SIDE, SIDE), WHITE)
    image.paste(RED, (0, 0, 4, 4))
    image.paste(GREEN, (4, 0, 8, 4))
    image.paste(BLUE, (0, 4, 4, 8))
    return image


@pytest.mark.parametrize(
    ("format_", "options"),
    [("PNG", {}), ("BMP", {}), ("GIF", {}), ("WEBP", {"lossless": True})],
)
async def test_lossless_formats_come_out_exactly(
    loading: Make, format_: str, options: dict[str, Any]
) -> None:
    pixels = await seen(loading, url_of(corners(), format_, **options))
    assert (pixels == np.asarray(corners())).all()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
async def test_jpegs_come_out_as_pillow_decodes_them(loading: Make, options: dict[str, Any]) -> None:
    data = encoded(Image.effect_noise((SIDE, SIDE), 80).convert("RGB"), "JPEG", **options)
    with Image.open(BytesIO(data)) as image:
        assert (await seen(loading, data_url(data)) == np.asarray(image)).all()


async def test_the_format_is_told_by_content_and_not_by_media_type(loading: Make) -> None:
    one = loading()
    await one.load(data_url(encoded(corners(), "BMP"), "image/jpeg"))
    assert one.count("gateway_images_total", source="data", format="bmp") == 1


@pytest.mark.parametrize("format_", ["PPM", "TGA", "PCX", "SGI", "DIB"])
async def test_other_formats_are_refused_whatever_they_call_themselves(loading: Make, format_: str) -> None:
    with pytest.raises(UnsupportedImage) as caught:
        await loading().load(url_of(corners(), format_))
    assert (
        caught.value.message == f"{PARAM}: the image is not a JPEG, PNG, WebP, GIF, BMP, AVIF, HEIC or TIFF"
    )
    assert caught.value.param == PARAM


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("keep", [0.02, 0.5])
async def test_a_file_cut_off_is_an_image_error(loading: Make, format_: str, keep: float) -> None:
    data = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), format_)
    cut = data[: max(12, int(len(data) * keep))]
    with pytest.raises(ImageError, match="the image is broken or cut off") as caught:
        await loading().load(data_url(cut))
    assert type(caught.value) is ImageError


@each("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBP"])
@each("rest", [b"", b"\0" * 64, b"\xff" * 64, bytes(range(256))])
async def test_garbage_behind_a_right_start_is_an_image_error(
    loading: Make, start: bytes, rest: bytes
) -> None:
    with pytest.raises(ImageError):
        await loading().load(data_url(start + rest))


@pytest.mark.parametrize("decode", ["fast", "exact"])
@pytest.mark.parametrize("orientation", range(1, 9))
async def test_exif_orientation_is_applied(loading: Make, orientation: int, decode: str) -> None:
    undo = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = corners()
    for step in undo[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format_ in ("PNG", "WEBP"):
        options = {"lossless": True} if format_ == "WEBP" else {}
        picture = await loading(image_decode=decode).load(
            url_of(stored, format_, exif=exif, **options), side=SIDE
        )
        assert (np.asarray(picture.pixels) == np.asarray(corners())).all()


async def test_broken_exif_is_no_reason_to_refuse(loading: Make) -> None:
    pixels = await seen(loading, url_of(corners(), "PNG", exif=b"Exif\0\0MM\0*garbage"))
    assert (pixels == np.asarray(corners())).all()


def red_is_transparent_in_a_palette() -> bytes:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    return encoded(image, transparency=1)


TRANSPARENT = {
    "RGBA": encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0))),
    "LA": encoded(Image.new("LA", (4, 4), (0, 0))),
    "palette": red_is_transparent_in_a_palette(),
    "RGB": png((2, 2), 8, 2, bytes(RED) * 4, struct.pack(">HHH", 255, 0, 0)),
    "grey": png((2, 2), 8, 0, bytes(4), struct.pack(">H", 0)),
    "1 bit": png((8, 1), 1, 0, bytes(1), struct.pack(">H", 0)),
    "16-bit grey": png((2, 2), 16, 0, struct.pack(">H", 300) * 4, struct.pack(">H", 300)),
    "16-bit RGB": png((2, 2), 16, 2, struct.pack(">HHH", 9, 300, 0) * 4, struct.pack(">HHH", 9, 300, 0)),
    "GIF": encoded(Image.new("P", (4, 4), 0), "GIF", transparency=0),
    "WebP": encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "WEBP", lossless=True, exact=True),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
async def test_what_is_transparent_lies_on_white(loading: Make, kind: str) -> None:
    assert all_are(await seen(loading, data_url(TRANSPARENT[kind])), WHITE)


async def test_what_is_half_transparent_is_half_white(loading: Make) -> None:
    assert all_are(await seen(loading, url_of(Image.new("RGBA", (4, 4), (0, 0, 255, 128)))), (127, 127, 255))


@pytest.mark.parametrize("value", [0, 300, 1000, 40000, 65535])
async def test_16_bit_grey_is_scaled_and_not_clipped(loading: Make, value: int) -> None:
    data = png((2, 2), 16, 0, struct.pack(">H", value) * 4)
    assert all_are(await seen(loading, data_url(data)), (value >> 8,) * 3)


async def test_16_bit_colours_and_alpha_are_scaled(loading: Make) -> None:
    assert all_are(
        await seen(loading, data_url(png((2, 2), 16, 2, struct.pack(">HHH", 65535, 32768, 0) * 4))),
        (255, 128, 0),
    )
    rgba = struct.pack(">HHHH", 65535, 0, 0, 65535) * 4
    assert all_are(await seen(loading, data_url(png((2, 2), 16, 6, rgba))), RED)
    grey_alpha = struct.pack(">HH", 32768, 65535) * 4
    assert all_are(await seen(loading, data_url(png((2, 2), 16, 4, grey_alpha))), (128, 128, 128))


@pytest.mark.parametrize(
    ("mode", "colour", "looks"), [("1", 1, WHITE), ("L", 90, (90, 90, 90)), ("1", 0, (0, 0, 0))]
)
async def test_black_and_white_and_grey_keep_their_shade(
    loading: Make, mode: str, colour: int, looks: tuple[int, int, int]
) -> None:
    for format_ in ("PNG", "BMP", "GIF"):
        assert all_are(await seen(loading, url_of(Image.new(mode, (4, 4), colour), format_)), looks)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
async def test_palettes_of_every_depth_are_looked_up(loading: Make, depth: int) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 0, 255, 0])
    assert all_are(await seen(loading, data_url(encoded(image, bits=depth))), GREEN)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
async def test_cmyk_jpegs_of_adobes_kind_show_their_colours(loading: Make, options: dict[str, Any]) -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(red, "JPEG", quality=95, **options)
    assert b"Adobe" in data
    assert all_are(await seen(loading, data_url(data)), RED, within=2)


async def test_ycck_jpegs_show_their_colours(loading: Make) -> None:
    # Pillow writes Adobe's inverted CMYK, marked by transform 0; transform 2 makes YCCK of it.
    y, cb, cr = Image.new("RGB", (16, 16), (0, 255, 255)).convert("YCbCr").split()
    planes = [plane.point(lambda value: 255 - value) for plane in (y, cb, cr, Image.new("L", (16, 16), 255))]
    data = bytearray(encoded(Image.merge("CMYK", planes), "JPEG", quality=95, subsampling=0))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    assert all_are(await seen(loading, data_url(bytes(data))), RED, within=3)


@pytest.mark.parametrize(("format_", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
async def test_of_an_animation_the_first_frame_is_taken(
    loading: Make, format_: str, options: dict[str, Any]
) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED, BLUE)]
    url = url_of(frames[0], format_, save_all=True, append_images=frames[1:], duration=50, **options)
    assert all_are(await seen(loading, url), GREEN)
