"""When a batch's line may start, and whose: live requests come first, lines take the room that they leave.

While a live request is under way no line starts, but for one in PATIENCE, so that a batch is never stuck.
When it has been quiet for a while, one line may run, and one more for each STEP of quiet: the first live
request after a pause meets few of them. Lines that run go on; the engine has them at the lowest priority.

The caller with the fewest running lines comes next, of several the one served longest ago.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import Gauge

from gateway.access.admission import Admission

SETTLE: Final = 0.05  # seconds of quiet before the first line starts
STEP: Final = 0.1  # seconds of quiet for each line more
PATIENCE: Final = 5.0  # seconds without any line that runs, after which one starts whatever else does
LOOK_EVERY: Final = 0.02  # seconds


@dataclass(slots=True, eq=False)
class _Asked:
    caller: str
    alone: bool
    number: int
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True, eq=False)
class LinePermit:
    """The place of one running line."""

    _gate: "LineScheduler"
    _asked: _Asked
    _held: bool = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._gate._end(self._asked)  # noqa: SLF001  # its own handle


class LineScheduler:
    """Up to `most` lines at once. None starts while `held` says so. Places are given out while `run` runs."""

    def __init__(
        self, admission: Admission, most: int, held: Callable[[], bool], running_lines: Gauge
    ) -> None:
        self._gauge = running_lines
        self._admission = admission
        self._most = most
        self._held = held
        self._running: Counter[str] = Counter()  # by caller
        self._alone = False  # a line that wants to be alone runs
        self._moved = time.monotonic()  # when a line last started or ended
        self._waiting: list[_Asked] = []
        self._asked = asyncio.Event()
        self._numbers = 0
        self._served: dict[str, int] = {}  # callers who have lines that wait or run: when, in numbers

    async def take(self, caller: str, stop: asyncio.Event, *, alone: bool = False) -> LinePermit | None:
        """Return the place of one line of `caller`, None if `stop` is set first.

        With `alone`, no other line runs beside it.
        """
        self._numbers += 1
        asked = _Asked(caller, alone, self._numbers)
        self._waiting.append(asked)
        self._asked.set()
        stopped = asyncio.ensure_future(stop.wait())
        either: set[asyncio.Future[Any]] = {asked.granted, stopped}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._leave(asked)
            raise
        finally:
            stopped.cancel()
        if stop.is_set():
            self._leave(asked)
            return None
        return LinePermit(self, asked)

    async def run(self) -> None:
        """Give places to those who wait, until cancelled."""
        while True:
            self._asked.clear()
            if not self._waiting:
                await self._asked.wait()
            asked = self._next(time.monotonic())
            if asked is None:
                await asyncio.sleep(LOOK_EVERY)  # quiet is a matter of time
            else:
                self._start(asked)

    def _next(self, now: float) -> _Asked | None:
        if not self._waiting or self._alone or not self._may_start(now):
            return None
        asked = min(self._waiting, key=self._turn)
        return None if asked.alone and self._running else asked

    def _turn(self, asked: _Asked) -> tuple[int, int, int]:
        return self._running[asked.caller], self._served.get(asked.caller, 0), asked.number

    def _may_start(self, now: float) -> bool:
        if self._held():
            return False
        quiet = self._admission.quiet(now)
        running = self._running.total()
        if quiet < SETTLE:
            return not running and now - self._moved > PATIENCE
        return running < min(self._most, 1 + int((quiet - SETTLE) / STEP))

    def _start(self, asked: _Asked) -> None:
        self._waiting.remove(asked)
        self._running[asked.caller] += 1
        self._alone = asked.alone
        self._numbers += 1
        self._served[asked.caller] = self._numbers
        asked.granted.set_result(None)
        self._note()

    def _end(self, asked: _Asked) -> None:
        self._running[asked.caller] -= 1
        if not self._running[asked.caller]:
            del self._running[asked.caller]
        self._alone = self._alone and not asked.alone
        self._forget(asked.caller)
        self._note()

    def _leave(self, asked: _Asked) -> None:
        if asked.granted.done():  # in this very moment
            self._end(asked)
        else:
            self._waiting.remove(asked)
            self._forget(asked.caller)

    def _forget(self, caller: str) -> None:
        if caller not in self._running and all(asked.caller != caller for asked in self._waiting):
            self._served.pop(caller, None)

    def _note(self) -> None:
        self._gauge.set(self._running.total())
        self._moved = time.monotonic()
