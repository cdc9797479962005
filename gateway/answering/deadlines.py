"""Running requests, and what can end them: a deadline, a stalled engine, a shutdown.

Ending a request cancels its task and raises the reason there as an error: the client gets a status or an
error event, and everything that the request holds is released on the way.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from math import inf

import structlog

from gateway.errors import DeadlineExceeded, EngineStalled, GatewayError
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

WAITS = "the client says it waits (x-stainless-read-timeout)"
LOOK_EVERY = 0.5  # seconds between checks for stalled requests

log = structlog.get_logger()


class Running:
    """One running request, in the task that created it. Times are in seconds."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # only called in a task
        self._task = task
        self._error: GatewayError | None = None
        self._began = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None
        self._patience = self._client_timeout = self._longest = inf
        self.tokens = 0  # generated so far
        self.heard = time.perf_counter()  # when the engine last produced output, or started to be waited for

    def end(self, error: GatewayError) -> None:
        """End the request: `error` is raised in its task. Only the first call counts."""
        if self._error is None and not self._task.done():
            self._error = error
            self._task.cancel()

    def reason(self) -> GatewayError | None:
        """Return the error passed to `end`, or None; the caller must raise it instead of the cancellation."""
        if self._error is not None:
            self._task.uncancel()
        return self._error

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Raise the reason in place of the cancellation if `end` ends the block."""
        try:
            yield
        except asyncio.CancelledError:
            if (reason := self.reason()) is None:
                raise
            raise reason from None

    @contextmanager
    def limited(self, *, patience: float, longest: float, client_timeout: float) -> Iterator["Running"]:
        """End the block after `longest` seconds, or after `patience` without output of the engine.

        The client waits `client_timeout` seconds for the next bytes.
        """
        self._patience, self._longest, self._client_timeout = patience, longest, client_timeout
        self.heard = time.perf_counter()
        self._answer_within(longest)
        try:
            with self.ended():
                yield self
        finally:
            self._patience = self._client_timeout = inf
            self._close()

    def pause(self) -> None:
        """Expect no output of the engine until `resume`: the request waits for something else."""
        self.heard = inf

    def resume(self) -> None:
        """Expect output of the engine from now on."""
        self.heard = time.perf_counter()

    def expect_full_answer(self) -> None:
        """Count the client's timeout from the start of the request: its answer is not streamed."""
        if self._client_timeout < self._longest:
            self._close()
            self._answer_within(self._client_timeout, clients_own=True)

    def look(self, now: float) -> EngineStalled | DeadlineExceeded | None:
        """Return why the request must end, if the engine produced no output for too long."""
        silent = now - self.heard
        if silent > self._client_timeout:
            late = DeadlineExceeded(f"nothing was generated for the {self._client_timeout:g} s that {WAITS}")
            late.clients_own = True
            return late
        if silent > self._patience:
            return EngineStalled(f"the engine produced no output for {self._patience:g} s")
        return None

    def _answer_within(self, seconds: float, *, clients_own: bool = False) -> None:
        """End the request unless it is answered within `seconds` of its start."""
        allowed = f"the {seconds:g} s that {WAITS}" if clients_own else f"{seconds:g} s"
        late = DeadlineExceeded(f"the answer was not ready within {allowed}")
        late.clients_own = clients_own
        self._timer = asyncio.get_running_loop().call_at(self._began + seconds, self.end, late)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class RunningRequests:
    """All running requests. Those that generate have deadlines; a shutdown waits for all, then ends them."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._timeout = settings.request_timeout
        self._patience = settings.stall_timeout
        self._metrics = metrics
        self._all: set[Running] = set()

    def __len__(self) -> int:
        return len(self._all)

    @contextmanager
    def request(self) -> Iterator[Running]:
        """Run the block as a request that `end` can end."""
        running = Running()
        self._all.add(running)
        try:
            with running.ended():
                yield running
        finally:
            self._all.discard(running)

    def limited(self, running: Running, client_timeout: float) -> AbstractContextManager[Running]:
        """Limit a block that generates; the client waits `client_timeout` seconds for the next bytes."""
        return running.limited(patience=self._patience, longest=self._timeout, client_timeout=client_timeout)

    def end_all(self, error: GatewayError) -> None:
        """End every request with `error`."""
        for running in list(self._all):
            running.end(error)

    async def watch(self) -> None:
        """End requests that get no output from the engine for too long, until cancelled."""
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
