"""What an AVIF file may be before libavif reads its header.

Layout: ISO/IEC 14496-12 (boxes: 4 bytes of length, 4 of type) and 23008-12 (`meta` lists the items of a still
picture, `moov` the frames of a sequence).
"""

import re
import struct
from collections.abc import Iterator

from gateway.errors import ImageError, ImageTooLarge, UnsupportedImage

# libavif looks through all items for each that it reads, and keeps Python's interpreter lock: with 50,000
# items in a megabyte it takes 8 s. A photograph's `meta` has some hundred bytes; 64 tiles make it 4,000.
MAX_META = 64 * 2**10
# A still picture has three or four.
MAX_BOXES = 64
_BRANDS_MAX = 256  # bytes
_HEADER, _LARGE_HEADER = 8, 16
# Length, type, version and flags; width and height.
_SIZE = re.compile(rb"\0\0\0\x14ispe\0\0\0\0(.{8})", re.DOTALL)


def is_avif(data: bytes) -> bool:
    """Say whether the first box names the brand of AVIF, alone or among others."""
    if data[4:8] != b"ftyp":
        return False
    length = min(int.from_bytes(data[:4], "big"), _BRANDS_MAX)
    brands = {data[at : at + 4] for at in (8, *range(16, length, 4))}
    return not brands.isdisjoint({b"avif", b"avis"})


def check(data: bytes) -> None:
    """Raise ImageError where reading the header could take long: many items, frames or boxes."""
    for number, (kind, _, length) in enumerate(_boxes(data), start=1):
        if number > MAX_BOXES:
            raise ImageTooLarge(f"the AVIF image has more than {MAX_BOXES} boxes")
        if kind == b"meta" and length > MAX_META:
            raise ImageTooLarge(f"the AVIF image's header has {length} bytes; the limit is {MAX_META}")
        if kind == b"moov":
            raise UnsupportedImage("the image is an AVIF sequence; only still AVIF images are supported")


def size(data: bytes) -> tuple[int, int]:
    """Return the width and height of the largest item, from its `ispe` box (23008-12, 6.5.3).

    A decoder that finds more pixels than that is stopped. Raises ImageError where no size is told.
    """
    found = []
    for kind, start, length in _boxes(data):
        if kind == b"meta":
            meta = data[start : start + min(length, MAX_META)]
            found += [struct.unpack(">II", at[1]) for at in _SIZE.finditer(meta)]
    width, height = max(found, key=lambda size: size[0] * size[1], default=(0, 0))
    if not width * height:
        raise ImageError("the image is broken or cut off")
    return width, height


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, place and length of each box on the first level. Raises ImageError for a bad length."""
    at = 0
    while at + _HEADER <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        header = _HEADER
        if length == 1:
            header = _LARGE_HEADER
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        elif length == 0:
            length = len(data) - at
        if length < header:
            raise ImageError("the image is broken or cut off")
        yield kind, at, length
        at += length
