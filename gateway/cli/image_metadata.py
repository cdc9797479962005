"""Reads and writes the description in a JPEG (XMP and IPTC) or a PNG (XMP); the pixels are not touched."""

import struct
import zlib
from typing import Final

from gateway.cli import iptc, xmp
from gateway.cli.xmp import MetadataError

JPEG: Final = b"\xff\xd8"
PNG: Final = b"\x89PNG\r\n\x1a\n"
APP0: Final = 0xE0
APP1: Final = 0xE1
APP13: Final = 0xED
START_OF_SCAN: Final = 0xDA
XMP_SEGMENT: Final = b"http://ns.adobe.com/xap/1.0/\0"
PHOTOSHOP_SEGMENT: Final = b"Photoshop 3.0\0"
SEGMENT_MAX: Final = 65_533  # bytes
XMP_KEYWORD: Final = b"XML:com.adobe.xmp\0"
XMP_CHUNK: Final = XMP_KEYWORD + b"\0\0\0\0"  # neither compressed nor in a language
PNG_END: Final = b"IEND"

Segments = list[tuple[int, bytes]]
Chunks = list[tuple[bytes, bytes]]


def read(content: bytes) -> str | None:
    """Return the description, or None if there is none. Raises MetadataError."""
    if content.startswith(PNG):
        packet = _first(XMP_CHUNK, _chunks(content)[0])
        return xmp.read(packet) if packet else None
    segments, _ = _segments(content)
    packet = _first(XMP_SEGMENT, segments)
    return (xmp.read(packet) if packet else None) or iptc.read(_resources(segments))


def write(content: bytes, text: str) -> bytes:
    """Return the file with `text` as its description. Raises MetadataError."""
    return _write_png(content, text) if content.startswith(PNG) else _write_jpeg(content, text)


def _first(head: bytes, parts: Segments | Chunks) -> bytes | None:
    return next((data.removeprefix(head) for _, data in parts if data.startswith(head)), None)


def _write_jpeg(content: bytes, text: str) -> bytes:
    segments, rest = _segments(content)
    packet = XMP_SEGMENT + xmp.write(_first(XMP_SEGMENT, segments), text)
    if len(packet) > SEGMENT_MAX:
        raise MetadataError(f"its XMP would have {len(packet):,} bytes; a JPEG's limit is {SEGMENT_MAX:,}")
    resources = iptc.write(_resources(segments), text)
    step = SEGMENT_MAX - len(PHOTOSHOP_SEGMENT)
    new = [(APP1, packet)]
    new += [(APP13, PHOTOSHOP_SEGMENT + resources[at : at + step]) for at in range(0, len(resources), step)]
    kept = [part for part in segments if not part[1].startswith((XMP_SEGMENT, PHOTOSHOP_SEGMENT))]
    # JFIF's and Exif's segments must come first.
    start = next((at for at, part in enumerate(kept) if part[0] not in (APP0, APP1)), len(kept))
    ordered = [*kept[:start], *new, *kept[start:]]
    return (
        JPEG
        + b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in ordered)
        + rest
    )


def _resources(segments: Segments) -> bytes:
    """Return Photoshop's image resources, which may need several segments."""
    head = PHOTOSHOP_SEGMENT
    return b"".join(data.removeprefix(head) for _, data in segments if data.startswith(head))


def _segments(content: bytes) -> tuple[Segments, bytes]:
    """Return the marker and data of each segment before the first scan, and the rest of the file."""
    if not content.startswith(JPEG):
        raise MetadataError("a description can be put into a JPEG or a PNG only; use --format xmp")
    segments: Segments = []
    at = len(JPEG)
    while True:
        while content[at : at + 2] == b"\xff\xff":  # padding
            at += 1
        marker, length = content[at + 1 : at + 2], content[at + 2 : at + 4]
        if content[at : at + 1] != b"\xff" or len(length) < 2:  # noqa: PLR2004  # bytes of a length
            raise MetadataError("the JPEG is damaged")
        if marker[0] == START_OF_SCAN:
            return segments, content[at:]
        end = at + 2 + int.from_bytes(length, "big")
        if end > len(content):
            raise MetadataError("the JPEG is damaged")
        segments.append((marker[0], content[at + 4 : end]))
        at = end


def _write_png(content: bytes, text: str) -> bytes:
    chunks, rest = _chunks(content)
    packet = xmp.write(_first(XMP_CHUNK, chunks), text)
    kept = [part for part in chunks if not part[1].startswith(XMP_CHUNK)]
    kept.insert(1, (b"iTXt", XMP_CHUNK + packet))  # after the header, which is first
    encoded = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in kept
    )
    return PNG + b"".join(encoded) + rest


def _chunks(content: bytes) -> tuple[Chunks, bytes]:
    """Return the type and data of each chunk, and what follows the last."""
    chunks: Chunks = []
    at = len(PNG)
    while not chunks or chunks[-1][0] != PNG_END:
        size = int.from_bytes(content[at : at + 4], "big")
        end = at + 12 + size
        data = content[at + 8 : at + 8 + size]
        if end > len(content):
            raise MetadataError("the PNG is damaged")
        if data.startswith(XMP_KEYWORD) and not data.startswith(XMP_CHUNK):
            raise MetadataError("its XMP is compressed, which XMP forbids")
        chunks.append((content[at + 4 : at + 8], data))
        at = end
    return chunks, content[at:]
