"""Rate-limit counters per caller, kept in this process."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.access.window import MINUTE, Window

REASONS: Final = ("unreachable", "authentication", "wrong_type", "other")  # why a request was not counted
SWEPT: Final = 2  # stale callers examined per call; a call adds only one


@dataclass(frozen=True, slots=True)
class Ask:
    """The cost of a request against one limit per minute.

    If less than `needed` is left, the request is refused and nothing is counted. If `needed` is None,
    `amount` always counts; a negative one is a refund.
    """

    kind: str  # requests, tokens or images
    limit: int
    amount: int
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """The window of each ask, and the index of the first ask that was refused."""

    windows: Sequence[Window]
    refused: int | None = None


class Counts(Protocol):
    """Counts what callers send."""

    async def take(self, caller: str, asks: Sequence[Ask]) -> Counted:
        """Count all of `asks` against `caller`, or none if one is refused."""

    def reason(self, error: Exception) -> str | None:
        """Return the one of REASONS that fits `error`, raised by `take`; None if it is not from the store."""

    async def close(self) -> None:
        """Close all connections."""


_Entry = tuple[float, Window]  # the minute, and the counts in it


class MemoryCounts:
    """Counts in this process. The time of a call does not depend on the number of callers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: OrderedDict[str, dict[str, _Entry]] = OrderedDict()  # least recently seen first

    def __len__(self) -> int:
        return len(self._callers)

    async def take(self, caller: str, asks: Sequence[Ask]) -> Counted:
        minute, seconds = divmod(self._clock(), MINUTE)
        counted = self._callers.get(caller) or {}
        windows = [
            _at(counted.get(ask.kind, (minute, Window(ask.limit))), ask.limit, minute, seconds)
            for ask in asks
        ]
        for index, ask in enumerate(asks):
            if ask.needed is not None and windows[index].left < ask.needed:
                return Counted(windows, index)
        for index, ask in enumerate(asks):
            windows[index] = windows[index].plus(ask.amount)
            counted[ask.kind] = minute, windows[index]
        self._callers[caller] = counted
        self._callers.move_to_end(caller)
        self._sweep(minute)
        return Counted(windows)

    def reason(self, error: Exception) -> str | None:  # noqa: ARG002  # memory is always reachable
        return None

    async def close(self) -> None:
        """Do nothing: no connection is open."""

    def _sweep(self, minute: float) -> None:
        """Forget callers whose counts have expired, so that ever new addresses take no memory."""
        for _ in range(min(SWEPT, len(self._callers))):
            name, counted = next(iter(self._callers.items()))
            if any(minute - at <= window.reset // MINUTE for at, window in counted.values()):
                self._callers.move_to_end(name)
            else:
                del self._callers[name]


def _at(entry: _Entry, limit: int, minute: float, seconds: float) -> Window:
    """Return the window of `entry` as it counts now, against `limit`."""
    at, window = entry
    window = Window(limit, window.before, window.now, MINUTE - seconds)
    return window.later(int(minute - at), MINUTE - seconds) if minute > at else window
