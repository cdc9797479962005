"""Reads the boxes of ISO base media files: HEIC, AVIF and videos. ISO/IEC 14496-12 and 23008-12.

A box has 4 bytes of length, 4 of type, and its content. The first, `ftyp`, names brands; `meta` lists the
items of a still image, `moov` the frames of a sequence.
"""

import re
import struct
from collections.abc import Iterator

from gateway.errors import ImageError, ImageTooLarge

# libavif searches all items for each that it reads: 50,000 items in a megabyte take 8 s. The `meta` of a
# photo has some hundred bytes; with 64 tiles it has 4,000, with the 192 of a 48-megapixel phone 12,000.
MAX_META = 64 * 2**10
# A still image has three or four.
MAX_BOXES = 64
_BRANDS_MAX = 256  # bytes
_HEADER, _LARGE_HEADER = 8, 16
# Length, type, version and flags; width and height.
_SIZE = re.compile(rb"\0\0\0\x14ispe\0\0\0\0(.{8})", re.DOTALL)


def brands(data: bytes) -> set[bytes]:
    """Return the brands that the first box names; none if it is not `ftyp`."""
    if data[4:8] != b"ftyp":
        return set()
    length = min(int.from_bytes(data[:4], "big"), _BRANDS_MAX)
    return {data[at : at + 4] for at in (8, *range(16, length, 4))}


def check(data: bytes, name: str) -> set[bytes]:
    """Return the types of the top-level boxes. Raises ImageTooLarge for too many boxes or items."""
    kinds = set()
    for number, (kind, _, length) in enumerate(boxes(data), start=1):
        if number > MAX_BOXES:
            raise ImageTooLarge(f"the {name} image has more than {MAX_BOXES} boxes")
        if kind == b"meta" and length > MAX_META:
            raise ImageTooLarge(f"the {name} image's header has {length} bytes; the limit is {MAX_META}")
        kinds.add(kind)
    return kinds


def meta(data: bytes) -> bytes:
    """Return the boxes that list the items of a still image."""
    return b"".join(
        data[start : start + min(length, MAX_META)] for kind, start, length in boxes(data) if kind == b"meta"
    )


def size(data: bytes) -> tuple[int, int]:
    """Return the width and height of the largest item, from its `ispe` box (23008-12, 6.5.3).

    A decoder that finds more pixels is stopped. Raises ImageError if the file declares no size.
    """
    found = [struct.unpack(">II", at[1]) for at in _SIZE.finditer(meta(data))]
    width, height = max(found, key=lambda size: size[0] * size[1], default=(0, 0))
    if not width * height:
        raise ImageError("the image is broken or cut off")
    return width, height


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, offset and length of each top-level box. Raises ImageError for an invalid length."""
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
