"""How far a download, a check or the loading of weights is: bytes, rate and time left."""

import time
from collections import deque
from dataclasses import dataclass, field

WINDOW = 10.0  # seconds over which the rate is measured


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is, in bytes and bytes per second; `doing` is a verb for people."""

    done: int
    total: int
    rate: float
    doing: str = "fetching"

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def __str__(self) -> str:
        """Say it as in `3.2 of 14.1 GB, 85 MB/s, 2 min left`."""
        unit, name = (1e9, "GB") if self.total >= 1e9 else (1e6, "MB")  # noqa: PLR2004  # the unit itself
        amount = f"{self.done / unit:.1f} of {self.total / unit:.1f} {name}"
        left = self.seconds_left
        if left is None:
            return amount
        time_left = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"  # noqa: PLR2004  # reads better below
        return f"{amount}, {self.rate / 1e6:.0f} MB/s, {time_left} left"


@dataclass(slots=True)
class Meter:
    """Measures the rate of a growing number of bytes."""

    total: int
    doing: str = "fetching"
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def at(self, done: int) -> Progress:
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        rate = (done - before) / (now - since) if now > since else 0.0
        return Progress(done, self.total, rate, self.doing)
