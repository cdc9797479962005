"""Checks the first page of a TIFF, as scanners write it, before Pillow and libtiff read it.

TIFF 6.0; BigTIFF, whose lengths have 8 bytes. The first directory describes the first page.
"""

import struct
from dataclasses import dataclass

from gateway.errors import ImageError, ImageTooLarge, UnsupportedImage

MOST_TAGS = 1000  # a camera writes about a hundred
MOST_PIECES = 2**16  # strips or tiles; a fax may have one per row
STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
_BIG = 43
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOUR = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _EXTRA, _FORMAT = 273, 277, 322, 323, 324, 338, 339
_REDUCED, _OTHERS, _DNG = 254, 330, 50706
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the `struct` code of a field's type
_MOST_VALUES = 8  # read per field
_COMPRESSIONS = frozenset(
    {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946}
)  # none, fax, LZW, JPEG, Deflate, PackBits
_COLOURS = frozenset({0, 1, 2, 3, 5, 6})  # grey with white or black as 0, RGB, palette, CMYK, YCbCr
_RGB, _RGB_SAMPLES = 2, 3
_DEPTHS = frozenset({1, 2, 4, 8, 16})
_UNSIGNED = frozenset({1, 4})  # and undefined
_BROKEN = "the image is broken or cut off"


@dataclass(frozen=True, slots=True)
class Page:
    """The first page: its stored size, and the bits per pixel in the layout of the file."""

    size: tuple[int, int]
    bits: int
    transparent: bool


def first_page(data: bytes) -> Page:
    """Return the page that the first directory describes. Raises ImageError and its subclasses."""
    try:
        tags = _directory(data)
    except (struct.error, OverflowError):
        raise ImageError(_BROKEN) from None
    _check_kind(data, tags)
    width, height = (tags.get(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT))
    if not width * height:
        raise ImageError(_BROKEN)
    depths = tags.get(_BITS, (1,))
    samples = tags.get(_SAMPLES, (len(depths),))[0]
    tile = tags.get(_TILE_WIDTH, (0,))[0] * tags.get(_TILE_HEIGHT, (0,))[0]
    if tile > max(2**20, 4 * width * height):
        raise ImageTooLarge(f"the TIFF image has tiles of {tile} pixels, more than the full image")
    extra = tags.get(_EXTRA, (0,))[0] or (tags.get(_COLOUR) == (_RGB,) and samples > _RGB_SAMPLES)
    return Page((width, height), samples * max(depths), bool(extra))


def _directory(data: bytes) -> dict[int, tuple[int, ...]]:
    """Return the tags with integer values, of long arrays only the first few; checks the number of strips."""
    order = "<" if data[:1] == b"I" else ">"
    (magic,) = struct.unpack_from(order + "H", data, 2)
    offset, number, word = ("Q", "Q", 8) if magic == _BIG else ("I", "H", 4)
    (at,) = struct.unpack_from(order + offset, data, word)
    (count,) = struct.unpack_from(order + number, data, at)
    at += struct.calcsize(order + number)
    if count > MOST_TAGS:
        raise ImageTooLarge(f"the TIFF image has {count} tags; the limit is {MOST_TAGS}")
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(at, at + count * (4 + 2 * word), 4 + 2 * word):
        tag, kind, length = struct.unpack_from(order + "HH" + offset, data, entry)
        if tag in {_STRIPS, _TILES}:
            _bound_pieces(length)
        code = _INTEGERS.get(kind)
        if code is None or not length:
            continue
        value_at = entry + 4 + word
        if length * struct.calcsize(code) > word:
            (value_at,) = struct.unpack_from(order + offset, data, value_at)
        tags[tag] = struct.unpack_from(f"{order}{min(length, _MOST_VALUES)}{code}", data, value_at)
    return tags


def _bound_pieces(number: int) -> None:
    if number > MOST_PIECES:
        raise ImageTooLarge(f"the TIFF image has {number} strips or tiles; the limit is {MOST_PIECES}")


def _check_kind(data: bytes, tags: dict[int, tuple[int, ...]]) -> None:
    """Raise UnsupportedImage for files that Pillow cannot read, and for raw files of cameras."""
    if _DNG in tags or data[8:10] == b"CR" or (tags.get(_REDUCED, (0,))[0] & 1 and _OTHERS in tags):
        raise UnsupportedImage("this is a camera's raw file; send a JPEG or PNG")
    compression, colour = tags.get(_COMPRESSION, (1,))[0], tags.get(_COLOUR, (0,))[0]
    depth, kind = max(tags.get(_BITS, (1,))), max(tags.get(_FORMAT, (1,)))
    for what, value, known in (
        ("compression", compression, _COMPRESSIONS),
        ("colour space", colour, _COLOURS),
        ("sample depth", depth, _DEPTHS),
        ("sample format", kind, _UNSIGNED),
    ):
        if value not in known:
            raise UnsupportedImage(
                f"the TIFF image has {what} {value}, which is not supported; send a JPEG or PNG"
            )
