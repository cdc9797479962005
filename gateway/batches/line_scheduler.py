"""Decides when the next batch line starts, and which. Live requests come first.

While live requests run, a line starts only after PATIENCE seconds without any, so that no batch is stuck.
Without live requests, one line may run after SETTLE seconds, and one more for each STEP: the first live
request after a pause meets few of them. Running lines go on; the engine has them at the lowest priority.

The caller with the fewest running lines is next; among several, the one served longest ago.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import Gauge

from gateway.access.admission import Admission

SETTLE: Final = 0.05  # seconds without live requests before the first line starts
STEP: Final = 0.1  # more seconds without live requests for each further line
PATIENCE: Final = 5.0  # seconds without a running line, after which one starts beside live requests
CHECK_EVERY: Final = 0.02  # seconds


@dataclass(slots=True, eq=False)
class _WaitingLine:
    caller: str
    alone: bool
    number: int
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True, eq=False)
class LinePermit:
    """The right to run one line, until it is released."""

    _scheduler: "LineScheduler"
    _line: _WaitingLine
    _held: bool = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._scheduler._end(self._line)  # noqa: SLF001  # the permit is a part of the scheduler


class LineScheduler:
    """Grants permits to up to `most` lines at once while `run` runs; none while `paused` returns True."""

    def __init__(
        self, admission: Admission, most: int, paused: Callable[[], bool], running_lines: Gauge
    ) -> None:
        self._gauge = running_lines
        self._admission = admission
        self._most = most
        self._paused = paused
        self._running: Counter[str] = Counter()  # by caller
        self._alone = False  # the running line must run alone
        self._changed = time.monotonic()  # when a line last started or ended
        self._waiting: list[_WaitingLine] = []
        self._arrived = asyncio.Event()
        self._numbers = 0
        self._served: dict[str, int] = {}  # by caller with waiting or running lines: number of its last start

    async def take(self, caller: str, stop: asyncio.Event, *, alone: bool = False) -> LinePermit | None:
        """Wait for the permit of one line of `caller`; return None if `stop` is set first.

        With `alone`, no other line runs beside it.
        """
        self._numbers += 1
        line = _WaitingLine(caller, alone, self._numbers)
        self._waiting.append(line)
        self._arrived.set()
        stopped = asyncio.ensure_future(stop.wait())
        either: set[asyncio.Future[Any]] = {line.granted, stopped}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._leave(line)
            raise
        finally:
            stopped.cancel()
        if stop.is_set():
            self._leave(line)
            return None
        return LinePermit(self, line)

    async def run(self) -> None:
        """Grant permits to waiting lines, until cancelled."""
        while True:
            self._arrived.clear()
            if not self._waiting:
                await self._arrived.wait()
            line = self._next(time.monotonic())
            if line is None:
                await asyncio.sleep(CHECK_EVERY)  # time alone changes the answer: there is no event
            else:
                self._start(line)

    def _next(self, now: float) -> _WaitingLine | None:
        if not self._waiting or self._alone or not self._may_start(now):
            return None
        line = min(self._waiting, key=self._rank)
        return None if line.alone and self._running else line

    def _rank(self, line: _WaitingLine) -> tuple[int, int, int]:
        return self._running[line.caller], self._served.get(line.caller, 0), line.number

    def _may_start(self, now: float) -> bool:
        if self._paused():
            return False
        quiet = self._admission.quiet(now)
        running = self._running.total()
        if quiet < SETTLE:
            return not running and now - self._changed > PATIENCE
        return running < min(self._most, 1 + int((quiet - SETTLE) / STEP))

    def _start(self, line: _WaitingLine) -> None:
        self._waiting.remove(line)
        self._running[line.caller] += 1
        self._alone = line.alone
        self._numbers += 1
        self._served[line.caller] = self._numbers
        line.granted.set_result(None)
        self._record_change()

    def _end(self, line: _WaitingLine) -> None:
        self._running[line.caller] -= 1
        if not self._running[line.caller]:
            del self._running[line.caller]
        self._alone = self._alone and not line.alone
        self._forget(line.caller)
        self._record_change()

    def _leave(self, line: _WaitingLine) -> None:
        if line.granted.done():  # granted at the same moment
            self._end(line)
        else:
            self._waiting.remove(line)
            self._forget(line.caller)

    def _forget(self, caller: str) -> None:
        if caller not in self._running and all(line.caller != caller for line in self._waiting):
            self._served.pop(caller, None)

    def _record_change(self) -> None:
        self._gauge.set(self._running.total())
        self._changed = time.monotonic()
