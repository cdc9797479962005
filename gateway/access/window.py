"""A sliding window of two counts: how much of a limit per minute is used, and when more is available.

The count of the previous minute is weighted by the part of this minute that is left. A count beyond the limit
is carried over to the next minute, so a debt is paid in full, at one limit per minute.
"""

from dataclasses import dataclass
from math import floor
from typing import Final

MINUTE: Final = 60  # seconds
MOMENT: Final = 0.001  # seconds of slack, so that the limit has reset after the wait


@dataclass(frozen=True, slots=True)
class Window:
    """The counts against the limit `amount`."""

    amount: int
    before: int = 0  # counted in the minute before
    now: int = 0  # counted in this minute
    ends: float = MINUTE  # seconds until this minute ends

    @property
    def left(self) -> int:
        """Return how much the caller may still send."""
        return max(0, self.amount - floor(self.before * self.ends / MINUTE) - self.now)

    @property
    def reset(self) -> float:
        """Return the seconds until the full limit is available again, if nothing is sent until then."""
        if self.now:
            return self.ends + MINUTE * -(-self.now // self.amount)
        return self.ends if self.before else 0.0

    def seconds_until(self, amount: int) -> float:
        """Return the seconds until `amount` is available."""
        bound = self.amount - amount + 1  # the weighted count must be less
        if self.now >= bound:
            minutes = (self.now - bound) // self.amount + 1
            return self.ends + MINUTE * (minutes - 1) + self.later(minutes).seconds_until(amount)
        seconds = self.ends - MINUTE * (bound - self.now) / self.before if self.before else 0.0
        return max(0.0, seconds) + MOMENT

    def later(self, minutes: int, ends: float = MINUTE) -> "Window":
        """Return the window `minutes` later, in a minute that ends in `ends` seconds."""
        before = min(self.amount, max(0, self.now - (minutes - 1) * self.amount))
        return Window(self.amount, before, max(0, self.now - minutes * self.amount), ends)

    def plus(self, amount: int) -> "Window":
        """Return the window with `amount` added; a refund may reduce the count of the previous minute."""
        now = self.now + amount
        before = max(0, self.before + min(0, now))
        return Window(self.amount, before, max(0, now), self.ends)
