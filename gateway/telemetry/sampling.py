"""Limits how many log lines of one kind are written."""

import time
from collections.abc import Callable

PER_SECOND = 10  # lines of one kind


class Sampler:
    """Admits `PER_SECOND` lines of each kind per second. The number of kinds must be bounded."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kinds: dict[tuple[str, ...], list[int]] = {}  # second, lines in it, lines left out since

    def admit(self, *kind: str) -> int | None:
        """Return how many lines of `kind` were left out since the last one, or None to leave this one out."""
        second = int(self._now())
        seen = self._kinds.setdefault(kind, [second, 0, 0])
        if seen[0] != second:
            seen[:2] = second, 0
        if seen[1] >= PER_SECOND:
            seen[2] += 1
            return None
        seen[1] += 1
        left_out, seen[2] = seen[2], 0
        return left_out
