"""When a batch's line may start: live requests come first, lines take the room that they leave.

While a live request is under way no line starts, but for one in PATIENCE, so that a batch is never stuck.
When it has been quiet for a while, one line may run, and one more for each STEP of quiet: the first live
request after a pause meets few of them. Lines that run go on; the engine has them at the lowest priority.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import Gauge

from gateway.access.admission import Admission

SETTLE: Final = 0.05  # seconds of quiet before the first line starts
STEP: Final = 0.1  # seconds of quiet for each line more
PATIENCE: Final = 5.0  # seconds without any line that runs, after which one starts whatever else does
LOOK_EVERY: Final = 0.02  # seconds


class Gate:
    """Up to `most` lines at once. None starts while `held` says so."""

    def __init__(
        self, admission: Admission, most: int, held: Callable[[], bool], running_lines: Gauge
    ) -> None:
        self._gauge = running_lines
        self._admission = admission
        self._most = most
        self._held = held
        self._running = 0
        self._moved = time.monotonic()  # when a line last started or ended
        self._turn = asyncio.Lock()  # first come, first served

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold the place of one line."""
        async with self._turn:
            while not self._may_start(time.monotonic()):  # noqa: ASYNC110  # quiet is a matter of time
                await asyncio.sleep(LOOK_EVERY)
            self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def _may_start(self, now: float) -> bool:
        if self._held():
            return False
        quiet = self._admission.quiet(now)
        if quiet < SETTLE:
            return not self._running and now - self._moved > PATIENCE
        return self._running < min(self._most, 1 + int((quiet - SETTLE) / STEP))

    def _change(self, by: int) -> None:
        self._running += by
        self._gauge.set(self._running)
        self._moved = time.monotonic()
