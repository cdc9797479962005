"""Counts the scans of a JPEG: each passes over all pixels, even if it has few bytes. ITU T.81, annex B."""

import re

from gateway.errors import ImageTooLarge

# A marker other than those within entropy-coded data: stuffing, restarts, fill bytes.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_SOS, _EOI = 0xDA, 0xD9
MAX_SCANS = 100  # a progressive JPEG has about ten
MAX_SEGMENTS = 2000  # between scans: mostly tables, at most a dozen for each
_PIECE = 2**16  # bytes


def scans(data: bytes, at: int) -> int:
    """Return the number of scans of the image; the data of the first begin at `at`.

    Raises ImageTooLarge for too many scans, or too many segments between them.
    """
    number = 1
    for _ in range(MAX_SEGMENTS):
        found = _next_marker(data, at)
        if found is None or data[found + 1] == _EOI:
            return number
        number += data[found + 1] == _SOS
        if number > MAX_SCANS:
            raise ImageTooLarge(f"the image has more than {MAX_SCANS} scans")
        at = found + 2 + max(2, int.from_bytes(data[found + 2 : found + 4], "big"))
    raise ImageTooLarge(f"the image has more than {MAX_SEGMENTS} segments between its scans")


def _next_marker(data: bytes, at: int) -> int | None:
    # In pieces: a search holds the GIL, for half a second with 20 MB of fill bytes.
    for start in range(at, len(data), _PIECE):
        found = _MARKER.search(data, start, start + _PIECE + 1)
        if found is not None:
            return found.start()
    return None
