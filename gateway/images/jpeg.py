"""What a JPEG's scans cost: each goes through all pixels, however few bytes it has. ITU T.81, annex B."""

import re

from gateway.errors import ImageTooLarge

# No note, restart or filling: what stands between entropy-coded bytes.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_SOS, _EOI = 0xDA, 0xD9
MAX_SCANS = 100  # a progressive JPEG has about ten
MAX_SEGMENTS = 2000  # between the scans: tables, mostly; a dozen for each is plenty
_PIECE = 2**16  # bytes


def scans(data: bytes, at: int) -> int:
    """Return how many scans the image has, from the first, whose data begin at `at`, to its end.

    Raises ImageTooLarge for too many, or too many segments between them.
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
    # Piece by piece: a search keeps Python's interpreter lock, half a second for 20 MB of filling.
    for start in range(at, len(data), _PIECE):
        found = _MARKER.search(data, start, start + _PIECE + 1)
        if found is not None:
            return found.start()
    return None
