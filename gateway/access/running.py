"""The requests that run, and what ends them from outside: a deadline, a stalled engine, a shutdown.

Such an end cancels the request's task and is then raised there as the error that it is: the client gets a
status or an error event, and everything that the request holds is released on the way.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from gateway.errors import DeadlineExceeded, EngineStalled, GatewayError
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

LOOK_EVERY = 0.5  # seconds between two looks for requests that have stalled

log = structlog.get_logger()


class Running:
    """One request that runs, in the task that made it."""

    def __init__(self, patience: float) -> None:
        task = asyncio.current_task()
        assert task is not None  # we run in one
        self._task = task
        self._error: GatewayError | None = None
        self._began = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None
        self.patience = patience  # seconds
        self.tokens = 0  # that were generated
        self.heard = time.perf_counter()  # when the engine last gave it something, or its turn came

    def end(self, error: GatewayError) -> None:
        """End the request with `error`, raised where its task is. The first end counts."""
        if self._error is None and not self._task.done():
            self._error = error
            self._task.cancel()

    def reason(self) -> GatewayError | None:
        """Return why the request's task was cancelled, if by `end`; whoever asks raises it instead."""
        if self._error is not None:
            self._task.uncancel()
        return self._error

    def answer_within(self, seconds: float) -> None:
        """End the request where its answer takes longer, counted from its start."""
        self.close()
        late = DeadlineExceeded(f"the answer was not ready within {seconds:g} s")
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._began + seconds, self.end, late)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class RunningRequests:
    """All requests that run."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._timeout = settings.request_timeout
        self._patience = settings.stall_timeout
        self._metrics = metrics
        self._all: set[Running] = set()

    def __len__(self) -> int:
        return len(self._all)

    @contextmanager
    def request(self, client_timeout: float) -> Iterator[Running]:
        """Let the block be ended by `end`; the client waits `client_timeout` seconds for the next bytes."""
        running = Running(min(self._patience, client_timeout))
        running.answer_within(self._timeout)
        self._all.add(running)
        try:
            yield running
        except asyncio.CancelledError:
            if (reason := running.reason()) is None:
                raise
            raise reason from None
        finally:
            self._all.discard(running)
            running.close()

    def end_all(self, error: GatewayError) -> None:
        """End every request with `error`."""
        for running in list(self._all):
            running.end(error)

    async def watch(self) -> None:
        """End, for as long as this runs, the requests that hear nothing from the engine for too long."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = time.perf_counter()
            for running in list(self._all):
                silent = now - running.heard
                if silent > running.patience:
                    self._metrics.stalled.inc()
                    log.error("request_stalled", seconds=round(silent, 1))
                    running.end(EngineStalled(f"the engine gave nothing for {running.patience:g} s"))
