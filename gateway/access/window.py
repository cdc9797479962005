"""How much of a limit per minute is used, and when there is more: a sliding window of two counts.

What was counted in the minute before weighs less as this minute goes on, until it weighs nothing. What goes
beyond the limit in one minute counts in the next, so a debt is paid whole, one limit a minute.
"""

from dataclasses import dataclass
from math import floor
from typing import Final

MINUTE: Final = 60  # seconds
MOMENT: Final = 0.001  # seconds of slack, so that the limit has room again after the wait


@dataclass(frozen=True, slots=True)
class Window:
    """What counts against the limit `amount`."""

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
        """Return in how many seconds nothing counts any more, if nothing is sent until then."""
        if self.now:
            return self.ends + MINUTE * -(-self.now // self.amount)
        return self.ends if self.before else 0.0

    def seconds_until(self, amount: int) -> float:
        """Return in how many seconds `amount` is left."""
        room = self.amount - amount + 1  # what counts must be less
        if self.now >= room:
            minutes = (self.now - room) // self.amount + 1
            return self.ends + MINUTE * (minutes - 1) + self.later(minutes).seconds_until(amount)
        seconds = self.ends - MINUTE * (room - self.now) / self.before if self.before else 0.0
        return max(0.0, seconds) + MOMENT

    def later(self, minutes: int, ends: float = MINUTE) -> "Window":
        """Return the window so many minutes later, where that minute `ends`; by default at its start."""
        before = min(self.amount, max(0, self.now - (minutes - 1) * self.amount))
        return Window(self.amount, before, max(0, self.now - minutes * self.amount), ends)

    def plus(self, amount: int) -> "Window":
        """Return the window with `amount` more counted; what is given back may be of the minute before."""
        now = self.now + amount
        before = max(0, self.before + min(0, now))
        return Window(self.amount, before, max(0, now), self.ends)
