"""A PNG without what is noted in it besides its pixels: no note, damaged or not, is a reason to refuse it.

Chunks and their names: https://www.w3.org/TR/png-3/#5Chunk-layout.
"""

import zlib
from collections.abc import Iterator

_SIGNATURE, _FRAME = 8, 12  # bytes; a chunk's length, name and checksum
_ANCILLARY = 0x20  # of a name's first letter: a reader may do without such a chunk
# Samples that are transparent (`tRNS`), in bytes, by the kind of colour in IHDR; of a palette, one an entry.
_GREY, _RGB, _PALETTE = 0, 2, 3
_TRANSPARENT = {_GREY: range(2, 3), _RGB: range(6, 7), _PALETTE: range(1, 257)}
_COLOUR_AT = _SIGNATURE + 8 + 9
# Texts that tell the orientation: XMP, and Exif as ImageMagick wrote it before there was a chunk for it.
_TEXTS = frozenset({b"XML:com.adobe.xmp", b"Raw profile type exif"})
_TEXT_MAX = 2**20


def without_notes(data: bytes) -> bytes:
    """Return the PNG with all that its pixels, their transparency and their orientation depend on.

    Critical chunks stay as they are, for the reader to judge. Frames of an animation go: the first is the
    picture that IDAT holds.
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
    """Say whether the reader needs the chunk. `seen` has the names before it, and the keywords of texts."""
    match name:
        case b"PLTE":
            return colour == _PALETTE and b"IDAT" not in seen  # else it is a hint for displays of few colours
        case b"tRNS":
            fits = len(chunk) - _FRAME in _TRANSPARENT.get(colour, ())
            return fits and seen.isdisjoint({b"IDAT", b"tRNS"}) and _is_whole(chunk)
        case b"eXIf":
            return name not in seen and _is_whole(chunk)
        case b"tEXt" | b"zTXt" | b"iTXt":
            return _tells_orientation(chunk, name, seen)
    return not (name[:1].isalpha() and name[0] & _ANCILLARY)


def _tells_orientation(chunk: memoryview, name: bytes, seen: set[bytes]) -> bool:
    keyword, _, text = bytes(chunk[8 : 8 + _TEXT_MAX]).partition(b"\0")
    if keyword not in _TEXTS - seen or len(chunk) > _TEXT_MAX or not _is_whole(chunk):
        return False
    seen.add(keyword)
    text = text[:-4]
    if name == b"zTXt":
        return text[:1] == b"\0" and _inflates(text[1:])
    return name == b"tEXt" or text[:1] == b"\0"  # no compressed iTXt: XMP's isn't


def _inflates(packed: bytes) -> bool:
    """Say whether the bytes are zlib's, and hold no more than a note may."""
    inflating = zlib.decompressobj()
    try:
        inflating.decompress(packed, _TEXT_MAX)
    except zlib.error:
        return False
    return inflating.eof


def _is_whole(chunk: memoryview) -> bool:
    """Say whether the chunk is as long as it says, and its checksum is right."""
    whole = len(chunk) == _FRAME + int.from_bytes(chunk[:4], "big")
    return whole and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
