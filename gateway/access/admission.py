"""Admission: a queue permit before a request is read, an engine permit before it joins the engine's batch."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import ceil

from prometheus_client import Gauge, Histogram

from gateway.access.callers import Caller
from gateway.access.fair_semaphore import FairSemaphore
from gateway.errors import RateLimited
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

RESERVE = 8  # one queue permit in this many is reserved for callers that hold none
ENGINE_RESERVE = 5  # the same for engine permits
PER_PRIORITY = 256  # running tokens of a caller that lower the priority of its next job by one
LOWEST = 999_999  # for batch lines


class Admission:
    """Grants queue and engine permits; a request that gets none in time is refused with `Retry-After`."""

    def __init__(self, settings: Settings, metrics: Metrics, engine_permits: int) -> None:
        self._metrics = metrics
        metrics.in_flight_limit.set(settings.max_running)
        metrics.waiting_limit.set(settings.max_waiting)
        self._live = 0
        self._quiet_since = time.monotonic()
        self._queue_permits = FairSemaphore(
            settings.max_running,
            reserve=settings.max_running // RESERVE,
            max_waiting=settings.max_waiting,
            max_wait=settings.max_wait,
        )
        self._engine_permits = FairSemaphore(
            engine_permits,
            reserve=engine_permits // ENGINE_RESERVE,
            # A request with a queue permit may wait for an engine permit for as long as its answer may take.
            max_waiting=settings.max_running,
            max_wait=settings.request_timeout,
        )

    def quiet(self, now: float) -> float:
        """Return the seconds since a request last held or awaited a permit; `now` is `time.monotonic()`."""
        return 0.0 if self._live else now - self._quiet_since

    @asynccontextmanager
    async def queue_permit(self, caller: Caller) -> AsyncIterator[None]:
        """Hold a queue permit. Raises Overloaded (503) if the queue is full or the wait is too long.

        Raises RateLimited (429) if the caller already runs as many requests as its class allows.
        """
        limit = caller.caller_class.requests_at_once
        if limit is not None and self._queue_permits.under_way(caller) >= limit:
            self._metrics.limited.labels("at_once", caller.caller_class.name).inc()
            raise RateLimited(f"the limit is {limit} concurrent requests", retry_after=1)
        with self._busy():
            with _waiting(self._metrics.waiting, self._metrics.waiting_seconds):
                permit = await self._queue_permits.take(caller)
            self._metrics.in_flight.inc()
            try:
                yield
            finally:
                self._metrics.in_flight.dec()
                permit.release()

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._live += 1
        try:
            yield
        finally:
            self._live -= 1
            self._quiet_since = time.monotonic()

    @asynccontextmanager
    async def engine_permits(self, caller: Caller, number: int, tokens: int) -> AsyncIterator[int]:
        """Hold `number` engine permits, one per choice, and yield the job's priority; 0 is the highest.

        `tokens` is the request's expected cost; the caller with the lowest running cost is served next.
        """
        with _waiting(self._metrics.waiting_for_engine, self._metrics.engine_waiting_seconds):
            permits = await self._engine_permits.take(caller, number, tokens)
        try:
            before = self._engine_permits.cost(caller) - permits.cost
            yield min(LOWEST, ceil(before / PER_PRIORITY / caller.caller_class.weight))
        finally:
            permits.release()


@contextmanager
def _waiting(now: Gauge, seconds: Histogram) -> Iterator[None]:
    """Count a waiting request, and measure its wait if it gets its permit."""
    arrived = time.perf_counter()
    now.inc()
    try:
        yield
    finally:
        now.dec()
    seconds.observe(time.perf_counter() - arrived)
