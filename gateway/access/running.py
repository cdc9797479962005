"""The requests that run, and what ends them from outside: a deadline, a stalled engine, a shutdown.

Such an end cancels the request's task and is then raised there as the error that it is: the client gets a
status or an error event, and everything that the request holds is released on the way.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

import structlog

from gateway.errors import DeadlineExceeded, EngineStalled, GatewayError
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

WAITS = "the client says it waits (x-stainless-read-timeout)"
LOOK_EVERY = 0.5  # seconds between two looks for requests that have stalled

log = structlog.get_logger()


class Running:
    """One request that runs, in the task that made it. Times are in seconds."""

    def __init__(self, patience: float, *, client_timeout: float = inf, longest: float = inf) -> None:
        """`client_timeout` is how long the client says it waits for the next bytes."""
        task = asyncio.current_task()
        assert task is not None  # we run in one
        self._task = task
        self._error: GatewayError | None = None
        self._began = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None
        self._patience = patience
        self._client_timeout = client_timeout
        self._longest = longest
        self.tokens = 0  # that were generated
        self.heard = time.perf_counter()  # when the engine last gave it something, or its turn came
        self._answer_within(longest)

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

    def is_whole(self) -> None:
        """Count the client's own time from the request's start: it waits for the answer in one piece."""
        if self._client_timeout < self._longest:
            self.close()
            self._answer_within(self._client_timeout, clients_own=True)

    def look(self, now: float) -> EngineStalled | DeadlineExceeded | None:
        """Return why the request must end, if the engine gave nothing for too long."""
        silent = now - self.heard
        if silent > self._client_timeout:
            late = DeadlineExceeded(f"nothing was generated for the {self._client_timeout:g} s that {WAITS}")
            late.clients_own = True
            return late
        if silent > self._patience:
            return EngineStalled(f"the engine gave nothing for {self._patience:g} s")
        return None

    def _answer_within(self, seconds: float, *, clients_own: bool = False) -> None:
        """End the request if its answer takes longer, counted from its start."""
        if seconds == inf:
            return
        allowed = f"the {seconds:g} s that {WAITS}" if clients_own else f"{seconds:g} s"
        late = DeadlineExceeded(f"the answer was not ready within {allowed}")
        late.clients_own = clients_own
        self._timer = asyncio.get_running_loop().call_at(self._began + seconds, self.end, late)

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
        running = Running(self._patience, client_timeout=client_timeout, longest=self._timeout)
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
                if (error := running.look(now)) is None:
                    continue
                if not error.clients_own:
                    self._metrics.stalled.inc()
                    log.error("request_stalled", seconds=round(now - running.heard, 1))
                running.end(error)
