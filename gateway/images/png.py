"""Removes metadata from a PNG, so that broken metadata is no reason to refuse an image.

Chunks and their names: https://www.w3.org/TR/png-3/#5Chunk-layout.
"""

import zlib
from collections.abc import Iterator

_SIGNATURE, _FRAME = 8, 12  # bytes; a chunk's length, name and checksum
_ANCILLARY = 0x20  # bit of a name's first letter: a reader may ignore such a chunk
# Allowed bytes of `tRNS` (transparent samples) by the colour type in IHDR; for a palette, one per entry.
_GREY, _RGB, _PALETTE = 0, 2, 3
_TRANSPARENT = {_GREY: range(2, 3), _RGB: range(6, 7), _PALETTE: range(1, 257)}
_COLOUR_AT = _SIGNATURE + 8 + 9
# Texts with the orientation: XMP, and Exif as ImageMagick wrote it before there was a chunk for it.
_TEXTS = frozenset({b"XML:com.adobe.xmp", b"Raw profile type exif"})
_TEXT_MAX = 2**20


def without_notes(data: bytes) -> bytes:
    """Return the PNG with only the chunks that pixels, transparency and orientation depend on.

    Critical chunks are kept unchanged, for the reader to check. Animation frames are dropped: the first frame
    is the image in IDAT.
    """
    colour = data[_COLOUR_AT] if len(data) > _COLOUR_AT else _GREY
    kept: list[tuple[int, int]] = [(0, _SIGNATURE)]
    seen: set[bytes] = set()
    for start, end, name in _chunks(data):
        if _matters(memoryview(data)[start:end], name, colour, seen):
            if kept[-1][1] == start:
                kept[-1] = (kept[-1][0], end)
            else:
                kept.append((start, end))
        seen.add(name)
    if kept == [(0, len(data))]:
        return data
    return b"".join(memoryview(data)[start:end] for start, end in kept)


def _chunks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the start, end and name of each chunk up to IEND; the last may be cut off."""
    at = _SIGNATURE
    while at + 8 <= len(data):
        end = min(len(data), at + _FRAME + int.from_bytes(data[at : at + 4], "big"))
        name = data[at + 4 : at + 8]
        yield at, end, name
        if name == b"IEND":
            return
        at = end


def _matters(chunk: memoryview, name: bytes, colour: int, seen: set[bytes]) -> bool:
    """Return whether the reader needs the chunk. `seen` has earlier names and keywords of texts."""
    match name:
        case b"PLTE":
            return (
                colour == _PALETTE and b"IDAT" not in seen
            )  # else it is a hint for displays with few colours
        case b"tRNS":
            fits = len(chunk) - _FRAME in _TRANSPARENT.get(colour, ())
            return fits and seen.isdisjoint({b"IDAT", b"tRNS"}) and _is_intact(chunk)
        case b"eXIf":
            return name not in seen and _is_intact(chunk)
        case b"tEXt" | b"zTXt" | b"iTXt":
            return _has_orientation(chunk, name, seen)
    return not (name[:1].isalpha() and name[0] & _ANCILLARY)


def _has_orientation(chunk: memoryview, name: bytes, seen: set[bytes]) -> bool:
    keyword, _, text = bytes(chunk[8 : 8 + _TEXT_MAX]).partition(b"\0")
    if keyword not in _TEXTS - seen or len(chunk) > _TEXT_MAX or not _is_intact(chunk):
        return False
    seen.add(keyword)
    text = text[:-4]
    if name == b"zTXt":
        return text[:1] == b"\0" and _inflates(text[1:])
    return name == b"tEXt" or text[:1] == b"\0"  # not a compressed iTXt: XMP never is


def _inflates(packed: bytes) -> bool:
    """Return whether the bytes are a zlib stream of at most `_TEXT_MAX` bytes."""
    inflating = zlib.decompressobj()
    try:
        inflating.decompress(packed, _TEXT_MAX)
    except zlib.error:
        return False
    return inflating.eof


def _is_intact(chunk: memoryview) -> bool:
    """Return whether the chunk has its full length and the right checksum."""
    complete = len(chunk) == _FRAME + int.from_bytes(chunk[:4], "big")
    return complete and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
