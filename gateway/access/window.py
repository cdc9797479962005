"""What is left of a limit per minute, and when there is more."""

from dataclasses import dataclass
from math import floor
from typing import Final

MINUTE: Final = 60  # seconds
MOMENT: Final = 0.001  # seconds, so that what is waited for is over


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted in this minute and the one before it, as `limits` has it.

    What was counted in the minute before weighs less as this one goes on, until it weighs nothing.
    """

    amount: int  # the limit
    before: int
    before_ends: float  # in seconds, when it weighs nothing
    now: int
    now_ends: float  # likewise: a minute after this one is over

    @property
    def left(self) -> int:
        """Return how much the caller may still send."""
        counted = floor(self.before * self.before_ends / MINUTE) + self.now
        return max(0, self.amount - counted)

    @property
    def reset(self) -> float:
        """Return in how many seconds the whole limit is left, if nothing is sent until then."""
        return self.now_ends if self.now else self.before_ends if self.before else 0.0

    def seconds_until(self, amount: int) -> float:
        """Return in how many seconds `amount` is left."""
        room = self.amount - amount + 1  # what is counted must be less
        if self.now < room:
            weighs = self.before * self.before_ends / MINUTE
            too_much = weighs + self.now - room
            seconds = too_much * MINUTE / self.before if self.before and too_much > 0 else 0.0
        else:
            seconds = self.now_ends - room * MINUTE / self.now
        return max(0.0, seconds) + MOMENT
