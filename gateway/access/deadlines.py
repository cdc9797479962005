"""Running requests, and what can end them: a deadline, a stalled engine, a shutdown.

Such an end cancels the request's task and is then raised there as the error that it is: the client gets a
status or an error event, and everything that the request holds is released on the way.
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
        assert task is not None  # we run in one
        self._task = task
        self._error: GatewayError | None = None
        self._began = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None
        self._patience = self._client_timeout = self._longest = inf
        self.tokens = 0  # generated so far
        self.heard = time.perf_counter()  # when the engine last gave it something, or its turn came

    def end(self, error: GatewayError) -> None:
        """End the request: `error` is raised in its task. Only the first call counts."""
        if self._error is None and not self._task.done():
            self._error = error
            self._task.cancel()

    def reason(self) -> GatewayError | None:
        """Return why the request's task was cancelled, if by `end`; whoever asks raises it instead."""
        if self._error is not None:
            self._task.uncancel()
        return self._error

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Raise the reason in place of the cancellation where `end` ends the block."""
        try:
            yield
        except asyncio.CancelledError:
            if (reason := self.reason()) is None:
                raise
            raise reason from None

    @contextmanager
    def limited(self, *, patience: float, longest: float, client_timeout: float) -> Iterator["Running"]:
        """End the block if it takes `longest` seconds, or hears nothing from the engine for `patience`.

        The client says that it waits `client_timeout` for the next bytes.
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
        """Expect nothing of the engine until `resume`: the request waits for something else."""
        self.heard = inf

    def resume(self) -> None:
        """Expect something of the engine from now on."""
        self.heard = time.perf_counter()

    def expect_whole_answer(self) -> None:
        """Count the client's own time from the request's start: it waits for the answer in one piece."""
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
            return EngineStalled(f"the engine gave nothing for {self._patience:g} s")
        return None

    def _answer_within(self, seconds: float, *, clients_own: bool = False) -> None:
        """End the request if its answer takes longer, counted from its start."""
        allowed = f"the {seconds:g} s that {WAITS}" if clients_own else f"{seconds:g} s"
        late = DeadlineExceeded(f"the answer was not ready within {allowed}")
        late.clients_own = clients_own
        self._timer = asyncio.get_running_loop().call_at(self._began + seconds, self.end, late)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class RunningRequests:
    """All requests that run: those that generate are limited, and a shutdown waits for each and ends it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._timeout = settings.request_timeout
        self._patience = settings.stall_timeout
        self._metrics = metrics
        self._all: set[Running] = set()

    def __len__(self) -> int:
        return len(self._all)

    @contextmanager
    def request(self) -> Iterator[Running]:
        """Let the block be ended by `end`."""
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
