"""A picture whose pixels are whole is taken, whatever else its file holds."""

import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from gateway.errors import ImageError, ImageTooLarge
from gateway.images.header import open_image, read_header
from gateway.images.png import without_notes
from tests.each import each
from tests.images.conftest import Loading
from tests.images.pictures import data_url, encoded, noisy
from tests.images.test_formats import (
    BLUE,
    RED,
    SIDE,
    WHITE,
    all_are,
    corners,
    red_is_transparent_in_a_palette,
)

Make = Callable[..., Loading]
MB = 2**20


async def seen(loading: Make, data: bytes) -> np.ndarray:
    return np.asarray((await loading().load(data_url(data), side=SIDE)).pixels)


def chunk(kind: bytes, body: bytes, crc: int | None = None, length: int | None = None) -> bytes:
    check = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body) if length is None else length) + kind + body + struct.pack(">I", check)


BOMB = zlib.compress(bytes(50 * MB))
NOTES = {
    "pHYs with a wrong checksum": chunk(b"pHYs", bytes(9), 1),
    "pHYs of 3 bytes": chunk(b"pHYs", bytes(3)),
    "gAMA of 1 byte": chunk(b"gAMA", b"\1"),
    "cHRM of 5 bytes": chunk(b"cHRM", bytes(5)),
    "sRGB of nothing": chunk(b"sRGB", b""),
    "sBIT of 9 bytes": chunk(b"sBIT", bytes(9)),
    "bKGD of nothing": chunk(b"bKGD", b""),
    "tIME of 2 bytes": chunk(b"tIME", bytes(2)),
    "iCCP of an unknown method": chunk(b"iCCP", b"name\0\7" + zlib.compress(b"x" * 200)),
    "iCCP without a name": chunk(b"iCCP", b"name"),
    "iCCP that unpacks to 50 MB": chunk(b"iCCP", b"name\0\0" + BOMB),
    "zTXt of an unknown method": chunk(b"zTXt", b"key\0\7" + zlib.compress(b"x")),
    "zTXt that unpacks to 50 MB": chunk(b"zTXt", b"key\0\0" + BOMB),
    "Exif in a zTXt that unpacks to 50 MB": chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB),
    "iTXt that unpacks to 50 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "tEXt of no key": chunk(b"tEXt", b""),
    "eXIf with a wrong checksum": chunk(b"eXIf", b"MM\0*" + bytes(30), 1),
    "acTL of 1 byte": chunk(b"acTL", b"\1"),
    "fcTL of 1 byte": chunk(b"fcTL", b"\1"),
    "tRNS of 3 bytes": chunk(b"tRNS", bytes(3)),
    "tRNS with a wrong checksum": chunk(b"tRNS", struct.pack(">HHH", *RED), 1),
    "unknown with a wrong checksum": chunk(b"vpAg", bytes(9), 1),
    "a hint for displays of few colours": chunk(b"PLTE", bytes(4), 1),
}


@each("note", NOTES.values())
async def test_no_note_in_a_png_is_a_reason_to_refuse_it(loading: Make, note: bytes) -> None:
    png = encoded(corners())
    pixels = png.index(b"IDAT") - 4
    middle = pixels + 12 + int.from_bytes(png[pixels : pixels + 4], "big")
    for at in (33, middle):
        assert (await seen(loading, png[:at] + note + png[at:]) == np.asarray(corners())).all()


async def test_a_note_cut_off_behind_the_pixels_is_left_out(loading: Make) -> None:
    png = encoded(corners())
    for tail in (chunk(b"tEXt", b"x" * 9, length=5000), b"\0\0\0", b""):
        assert (await seen(loading, png[:-12] + tail) == np.asarray(corners())).all()


async def test_what_the_colours_depend_on_stays(loading: Make) -> None:
    palette = red_is_transparent_in_a_palette()
    assert without_notes(palette) == palette
    assert all_are(await seen(loading, palette), WHITE)
    transparent = palette.index(b"tRNS")
    damaged = palette[: transparent + 4] + b"\7" + palette[transparent + 5 :]
    assert all_are(await seen(loading, damaged), RED)
    colours = palette.index(b"PLTE")
    with pytest.raises(ImageError, match="broken"):
        await seen(loading, palette[: colours + 5] + b"\7" + palette[colours + 6 :])


def test_the_notes_that_are_kept_are_few_and_small() -> None:
    png, plain = encoded(corners()), chunk(b"tEXt", b"XML:com.adobe.xmp\0" + bytes(MB // 2))
    kept = without_notes(png[:33] + plain * 40 + chunk(b"prVt", bytes(3 * MB)) + png[33:])
    assert len(kept) == len(png) + len(plain)


def progressive() -> bytes:
    return encoded(noisy(64, 48), "JPEG", progressive=True)


THUMBNAIL = encoded(noisy(16, 12), "JPEG", progressive=True)
TAILS = {
    "noise": random.Random(1).randbytes(9_000_000),
    "scans": b"\xff\xda\0\x0c" * 10_000,
    "a film": b"\0\0\0\x18ftypmp42" + bytes(100_000) + b"\xff\xda" * 5000,
    "other pictures": progressive() * 30,
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_what_stands_behind_a_jpegs_end_is_nobodys_business(tail: bytes) -> None:
    for jpeg in (progressive(), encoded(noisy(64, 48), "JPEG")):
        alone, followed = (read_header(data, max_pixels=10**8) for data in (jpeg, jpeg + tail))
        assert followed.image is not None
        assert alone.image is not None
        assert followed.image.tobytes() == alone.image.tobytes()


def test_pictures_within_a_jpegs_notes_are_no_scans_of_it() -> None:
    note = b"Exif\0\0" + THUMBNAIL * 5
    segment = b"\xff\xe1" + (len(note) + 2).to_bytes(2, "big") + note
    jpeg = progressive()
    assert segment.count(b"\xff\xda") * 10 > 100
    within = jpeg[:2] + segment * 10 + jpeg[2:]
    second = jpeg.index(b"\xff\xda", jpeg.index(b"\xff\xda") + 1)
    between = jpeg[:second] + segment.replace(b"\xff\xe1", b"\xff\xe5", 1) * 10 + jpeg[second:]
    for data in (within, between):
        assert open_image(data, max_pixels=10**8).size == (64, 48)


def test_scans_before_a_jpegs_end_are_counted() -> None:
    jpeg = progressive()
    first = jpeg.index(b"\xff\xda")
    second = jpeg.index(b"\xff\xda", first + 2)
    with pytest.raises(ImageTooLarge, match="more than 100 scans"):
        open_image(jpeg[:second] + jpeg[first:second] * 100 + jpeg[second:], max_pixels=10**8)
    with pytest.raises(ImageTooLarge, match="more than 2000 segments between its scans"):
        open_image(jpeg[:second] + b"\xff\xe5\0\2" * 2000 + jpeg[second:], max_pixels=10**8)


def bmp(alpha: int, header: int, masks: tuple[int, ...] = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)) -> bytes:
    """Return a BMP of 4 x 4 blue pixels with 32 bits each and one alpha."""
    head = struct.pack("<IiiHHIIiiII", header, 4, 4, 1, 32, 3 if header > 40 else 0, 64, 0, 0, 0, 0)
    head = (head + struct.pack("<IIII", *masks)).ljust(header, b"\0") if header > 40 else head
    return (
        b"BM"
        + struct.pack("<IHHI", 14 + len(head) + 64, 0, 0, 14 + len(head))
        + head
        + bytes((255, 0, 0, alpha)) * 16
    )


@pytest.mark.parametrize("header", [40, 56, 108, 124])
async def test_a_bmp_whose_alpha_is_0_everywhere_is_opaque(loading: Make, header: int) -> None:
    assert all_are(await seen(loading, bmp(0, header)), BLUE)
    if header > 40:
        assert all_are(await seen(loading, bmp(0, header, (0, 0, 0, 0))), BLUE)
        one_is_seen = bmp(0, header)[:-1] + b"\xff"
        assert all_are((await seen(loading, one_is_seen))[-2:, :4], WHITE)
    assert not all_are(await seen(loading, encoded(Image.new("RGBA", (4, 4), (*BLUE, 0)))), BLUE)
