"""Keeps an engine running: starts it, says at which stage that is, and starts another when it dies."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import structlog

from gateway.engine.interface import Delta, Engine, Job, Model
from gateway.errors import EngineNotReady, GatewayError
from gateway.telemetry.metrics import Metrics

POLL = 0.25  # seconds between two looks at a running engine's health
ATTEMPTS = 5  # starts that may fail one after the other before the gateway gives up
LONGEST_PAUSE = 30.0  # seconds between two of them


class Report(Protocol):
    """Takes the stage that a start has reached, and how far that is; may be called from any thread."""

    def __call__(self, stage: str, progress: str = "") -> None: ...


log = structlog.get_logger()


class Supervisor:
    """An engine that outlives those which `make` makes; `make` gets a function to report stages with."""

    def __init__(self, make: Callable[[Report], Engine], metrics: Metrics) -> None:
        self._make = make
        self._metrics = metrics
        self._engine: Engine | None = None
        self._starting: Engine | None = None
        self._began = time.monotonic()
        self._stage = "starting"
        self._progress = ""

    @property
    def stage(self) -> str:
        """What the engine is doing, in words for people."""
        if self._engine is not None and self._engine.failed:
            return "the engine died"
        return f"{self._stage}: {self._progress}" if self._progress else self._stage

    @property
    def ready(self) -> bool:
        return self._engine is not None and not self._engine.failed

    @property
    def elapsed(self) -> float:
        """Seconds since the start that is under way began."""
        return time.monotonic() - self._began

    @property
    def model(self) -> Model:
        return self._running().model

    @property
    def failed(self) -> bool:
        return not self.ready

    async def start(self) -> None:
        """Start an engine once. Raises whatever its start raises."""
        self._began = time.monotonic()
        engine = self._starting = self._make(self._reach)
        await engine.start()
        self._engine, self._starting = engine, None
        self._reach("ready")
        self._metrics.ready.set(1)

    async def run(self) -> None:
        """Start the engine and keep one running, until cancelled.

        Raises what the first start raises, for then the settings are at fault, and what the last of ATTEMPTS
        starts in a row raises later.
        """
        await self.start()
        while True:
            await asyncio.sleep(POLL)
            if self.ready:
                continue
            log.error("engine_died")
            self._began = time.monotonic()
            self._reach("starting again")
            await self._end()
            await self._start_again()

    def generate(self, job: Job) -> AsyncGenerator[Delta]:
        """Return the running engine's deltas of `job`. Raises EngineNotReady (503) while there is none."""
        return self._running().generate(job)

    async def shutdown(self) -> None:
        self._reach("stopped")
        await self._end()

    def _running(self) -> Engine:
        if self._engine is None or self._engine.failed:
            raise EngineNotReady(
                f"the engine is starting: {self.stage} ({self.elapsed:.0f} s)", retry_after=5
            )
        return self._engine

    def _reach(self, stage: str, progress: str = "") -> None:
        changed, self._stage, self._progress = stage != self._stage, stage, progress
        if changed:  # Progress comes twice a second: it is shown, and not logged.
            log.info("engine_stage", stage=stage, seconds=round(self.elapsed, 1))

    async def _end(self) -> None:
        self._metrics.ready.set(0)
        engines, self._engine, self._starting = (self._engine, self._starting), None, None
        for engine in engines:
            if engine is None:
                continue
            try:
                await engine.shutdown()
            except Exception:
                # Whatever is left of a dead engine must not keep the next one from starting.
                log.exception("engine_shutdown_failed")

    async def _start_again(self) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            self._metrics.engine_restarts.inc()
            try:
                await self.start()
            except GatewayError:
                raise
            except Exception:
                log.exception("engine_start_failed", attempt=attempt)
                await self._end()
                if attempt == ATTEMPTS:
                    raise
                self._reach(f"waiting to start again: start {attempt} of {ATTEMPTS} failed")
                await asyncio.sleep(min(LONGEST_PAUSE, 2.0**attempt))
            else:
                return
