"""Rate-limit counters per caller, kept in this process."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.access.window import MINUTE, Window

REASONS: Final = ("unreachable", "authentication", "wrong_type", "other")  # why nothing was counted
SWEPT: Final = 2  # stale callers examined per call; a call adds only one


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request costs against one limit per minute.

    If less than `needed` is left, the request is refused and nothing is counted. Without `needed`, `amount`
    always counts; a negative one is a refund.
    """

    kind: str  # requests, tokens or images
    limit: int
    amount: int
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The windows of what was asked for, and the first that had too little left."""

    windows: Sequence[Window]
    refused: int | None = None  # its place


class Counts(Protocol):
    """Counts what callers send."""

    async def take(self, caller: str, asks: Sequence[Ask]) -> Taken:
        """Count all of `asks` against `caller`, or none where one is refused."""

    def reason(self, error: Exception) -> str | None:
        """Return which of REASONS `error`, raised by `take`, is; None if it is not the store's."""

    async def close(self) -> None:
        """Give back what it holds."""


_Counted = tuple[float, Window]  # in which minute, and what then


class MemoryCounts:
    """Counts in this process. A call takes as long with a million callers as with one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: OrderedDict[str, dict[str, _Counted]] = OrderedDict()  # by when they were last seen

    def __len__(self) -> int:
        return len(self._callers)

    async def take(self, caller: str, asks: Sequence[Ask]) -> Taken:
        minute, seconds = divmod(self._clock(), MINUTE)
        counted = self._callers.get(caller) or {}
        windows = [
            _at(counted.get(ask.kind, (minute, Window(ask.limit))), ask.limit, minute, seconds)
            for ask in asks
        ]
        for place, ask in enumerate(asks):
            if ask.needed is not None and windows[place].left < ask.needed:
                return Taken(windows, place)
        for place, ask in enumerate(asks):
            windows[place] = windows[place].plus(ask.amount)
            counted[ask.kind] = minute, windows[place]
        self._callers[caller] = counted
        self._callers.move_to_end(caller)
        self._sweep(minute)
        return Taken(windows)

    def reason(self, error: Exception) -> str | None:  # noqa: ARG002  # nothing here can be away
        return None

    async def close(self) -> None:
        """Nothing is held."""

    def _sweep(self, minute: float) -> None:
        """Forget callers of whom nothing counts any more; there is no end of addresses."""
        for _ in range(min(SWEPT, len(self._callers))):
            name, counted = next(iter(self._callers.items()))
            if any(minute - at <= window.reset // MINUTE for at, window in counted.values()):
                self._callers.move_to_end(name)
            else:
                del self._callers[name]


def _at(counted: _Counted, limit: int, minute: float, seconds: float) -> Window:
    """Return what was counted as it counts now, against `limit`."""
    at, window = counted
    window = Window(limit, window.before, window.now, MINUTE - seconds)
    return window.later(int(minute - at), MINUTE - seconds) if minute > at else window
