"""Checks the structure of a file before it is decoded: a few bytes can cost a decoder a lot of work.

Pillow's readers loop over segments, chunks and blocks in Python, and copy joined data with each of them. So
their numbers are limited here. Files of cameras and editors stay far below the limits.
"""

from collections.abc import Callable, Mapping

from gateway.errors import ImageError, ImageTooLarge, UnsupportedImage

MOST_SEGMENTS = 500  # of a JPEG before its first scan; a colour profile of 16 MB has 255
MOST_NOTES = 64  # of a JPEG's segments that are Exif; of a PNG's compressed texts and profiles
MOST_JUNK = 2**16  # unused bytes between the segments of a JPEG
MOST_CHUNKS = 1000  # of a PNG without pixels
MOST_DATA_CHUNKS = 20_000  # of a PNG with pixels; libpng writes 8 kB into each
MOST_BLOCKS = 4000  # of a GIF before its first frame, of 255 bytes

_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_INFLATED = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_BMP_RLE = frozenset({1, 2})


def check(data: bytes, format_: str) -> None:
    """Raise ImageTooLarge if `data` has too many parts, and UnsupportedImage for an RLE BMP."""
    if (look := _CHECKS.get(format_)) is not None:
        look(data)


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height; libwebp would allocate all pixels to read them. RFC 9649, section 2.

    Raises ImageError if there is no header.
    """
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X" and len(body) == 10:  # noqa: PLR2004  # flags, 24 bits each of width - 1 and height - 1
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L" and body[:1] == b"\x2f":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise ImageError("the image is broken or cut off")


def webp_may_be_transparent(data: bytes) -> bool:
    """Return whether the header allows an alpha channel. RFC 9649, section 2.7.1; lossless: section 3.4."""
    match data[12:16]:
        case b"VP8X":
            return bool(int.from_bytes(data[20:21]) & 0x10)
        case b"VP8L":
            return bool(int.from_bytes(data[24:25]) & 0x10)
    return False


def _check_jpeg(data: bytes) -> None:
    at, segments, notes, junk = 2, 0, 0, 0
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0:  # noqa: PLR2004  # no marker: the reader skips it byte by byte
            following = data.find(b"\xff", at + 1)
            junk += (following if following > 0 else len(data)) - at
            _bound(junk, MOST_JUNK, "bytes between its segments")
            if following < 0:
                return
            at = following
            continue
        if marker == 0xFF:  # noqa: PLR2004  # fill bytes; a run of them is skipped at once
            at = _skip_fill_bytes(data, at)
            continue
        if marker in (_SOS, _EOI):
            return
        segments += 1
        notes += marker == _APP1
        _bound(segments, MOST_SEGMENTS, "segments before its pixels")
        _bound(notes, MOST_NOTES, "segments of Exif")
        at += 2 if marker in _NO_LENGTH else 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))


def _skip_fill_bytes(data: bytes, at: int) -> int:
    """Return the position of the last of a run of FF bytes."""
    rest = data[at : at + 65536].lstrip(b"\xff")
    length = len(data[at : at + 65536]) - len(rest)
    return at + length - 1 if rest else at + length


def _check_png(data: bytes) -> None:
    at, others, pixels, inflated = 8, 0, 0, 0
    while at + 8 <= len(data):
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        if kind == b"IDAT":
            pixels += 1
            _bound(pixels, MOST_DATA_CHUNKS, "chunks of pixels")
        else:
            others += 1
            inflated += kind in _INFLATED
            _bound(others, MOST_CHUNKS, "chunks beside its pixels")
            _bound(inflated, MOST_NOTES, "compressed texts")
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _check_gif(data: bytes) -> None:
    flags = data[10] if len(data) > 10 else 0  # noqa: PLR2004  # of the screen descriptor
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks = 0
    while at + 2 <= len(data) and data[at] == 0x21:  # noqa: PLR2004  # an extension
        at += 2
        while at < len(data) and (length := data[at]):
            blocks += 1
            _bound(blocks, MOST_BLOCKS, "blocks before its pixels")
            at += 1 + length
        at += 1


def _check_bmp(data: bytes) -> None:
    if int.from_bytes(data[30:34], "little") in _BMP_RLE and int.from_bytes(data[14:18], "little") >= 40:  # noqa: PLR2004  # a header with the compression
        # Pillow reads it pixel by pixel in Python.
        raise UnsupportedImage("the image is a run-length encoded BMP; only uncompressed BMPs are supported")


def _bound(number: int, most: int, what: str) -> None:
    if number > most:
        raise ImageTooLarge(f"the image has more than {most} {what}")


_CHECKS: Mapping[str, Callable[[bytes], None]] = {
    "jpeg": _check_jpeg,
    "png": _check_png,
    "gif": _check_gif,
    "bmp": _check_bmp,
}
