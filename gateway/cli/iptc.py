"""Reads and writes the caption in Photoshop's image resources: IPTC-IIM 4.2, record 2, data set 120."""

import struct
from collections.abc import Iterator
from typing import Final

from gateway.cli.xmp import MetadataError

SIGNATURE: Final = b"8BIM"
IPTC: Final = 0x0404
DIGEST: Final = 0x0425  # of the IPTC resource as it was; programs ignore a caption that does not match it
CHARSET: Final = (1, 90)
CAPTION: Final = (2, 120)
UTF8: Final = b"\x1b%G"
CAPTION_MAX: Final = 2000  # bytes

DataSets = list[tuple[tuple[int, int], bytes]]


def read(resources: bytes) -> str | None:
    """Return the caption, or None if there is none. Raises MetadataError."""
    for number, _, data in _resources(resources):
        if number == IPTC:
            found = dict(_data_sets(data))
            encoding = "utf-8" if found.get(CHARSET) == UTF8 else "latin-1"
            return found.get(CAPTION, b"").decode(encoding, errors="replace") or None
    return None


def write(resources: bytes, text: str) -> bytes:
    """Return the resources with `text` as the caption. Raises MetadataError."""
    parsed = list(_resources(resources))
    old = next((data for number, _, data in parsed if number == IPTC), b"")
    kept = [one for one in parsed if one[0] not in (IPTC, DIGEST)]
    return b"".join(_resource(*one) for one in [*kept, (IPTC, b"\0\0", _iim(list(_data_sets(old)), text))])


def _iim(sets: DataSets, text: str) -> bytes:
    kept = [(name, data) for name, data in sets if name != CAPTION]
    charset = dict(kept).get(CHARSET)
    if charset is None and all(data.isascii() for name, data in kept if name[0] > 1):
        kept.insert(0, (CHARSET, UTF8))
        charset = UTF8
    # Other texts that are there are in another encoding, which a new declaration would spoil.
    encoded = text.encode("utf-8" if charset == UTF8 else "latin-1", errors="replace")
    if charset == UTF8:
        encoded = encoded[:CAPTION_MAX].decode(errors="ignore").encode()
    ordered = sorted([*kept, (CAPTION, encoded[:CAPTION_MAX])], key=lambda one: one[0][0])
    return b"".join(struct.pack(">BBBH", 0x1C, *name, len(data)) + data for name, data in ordered)


def _resources(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield number, name and data of each resource; names and data are padded to an even length."""
    at = 0
    try:
        while content[at : at + 4] == SIGNATURE:
            (number,) = struct.unpack_from(">H", content, at + 4)
            end_of_name = at + 6 + _even(content[at + 6] + 1)
            (size,) = struct.unpack_from(">I", content, end_of_name)
            data = content[end_of_name + 4 : end_of_name + 4 + size]
            if len(data) < size:
                raise MetadataError("its IPTC is damaged: a resource is cut short")
            yield number, content[at + 6 : end_of_name], data
            at = end_of_name + 4 + _even(size)
    except (struct.error, IndexError):
        raise MetadataError("its IPTC is damaged: a resource is cut short") from None
    if content[at:].strip(b"\0"):
        raise MetadataError("its IPTC is damaged: there is no resource where one must be")


def _resource(number: int, name: bytes, data: bytes) -> bytes:
    padding = b"\0" * (len(data) % 2)
    return SIGNATURE + struct.pack(">H", number) + name + struct.pack(">I", len(data)) + data + padding


def _data_sets(content: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield record, number and data of each data set."""
    at = 0
    while content[at : at + 1] == b"\x1c":
        header = content[at + 1 : at + 5]
        if len(header) < 4 or header[2] & 0x80:  # noqa: PLR2004  # a length of more than two bytes
            raise MetadataError("its IPTC is damaged: a data set has no length")
        record, number, size = struct.unpack(">BBH", header)
        data = content[at + 5 : at + 5 + size]
        if len(data) < size:
            raise MetadataError("its IPTC is damaged: a data set is cut short")
        yield (record, number), data
        at += 5 + size


def _even(size: int) -> int:
    return size + size % 2
