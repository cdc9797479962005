"""Tickets: how many requests may run, how many may wait, first come first served."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import Overloaded
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics


class Admission:
    """Hands out tickets. Whoever cannot get one in time is told to come back."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._free = settings.max_running
        self._max_waiting = settings.max_waiting
        self._max_wait = settings.max_wait
        self._metrics = metrics
        self._queue: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def ticket(self) -> AsyncIterator[None]:
        """Hold a ticket. Raises Overloaded (503) when the queue is full or the wait too long."""
        arrived = time.perf_counter()
        await self._acquire()
        self._metrics.waiting_seconds.observe(time.perf_counter() - arrived)
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._metrics.in_flight.dec()
            self._release()

    async def _acquire(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        if len(self._queue) >= self._max_waiting:
            raise Overloaded(f"{len(self._queue)} requests are waiting; the limit is {self._max_waiting}")
        await self._wait()

    async def _wait(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        self._metrics.waiting.inc()
        try:
            async with asyncio.timeout(self._max_wait):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled() and place.exception() is None:
                # The ticket came in the same moment; it must not be lost with its owner.
                self._release()
            if isinstance(error, TimeoutError):
                raise Overloaded(f"no place became free within {self._max_wait:g} s") from None
            raise
        finally:
            self._metrics.waiting.dec()
            if place in self._queue:
                self._queue.remove(place)

    def _release(self) -> None:
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
