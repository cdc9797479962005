"""Keeps an engine running: starts it, reports the stage, and replaces it if it dies or hangs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Protocol

import structlog

from engine_config.progress import Progress
from gateway.engine.interface import Constraint, Delta, Engine, EngineInfo, Job, Model
from gateway.engine.poison_detector import PoisonDetector
from gateway.engine.usage import EngineUsage
from gateway.errors import EngineDied, EngineNotReady, GatewayError
from gateway.telemetry.metrics import Metrics

POLL = 0.25  # seconds between health checks of a running engine
ATTEMPTS = 5  # failed starts in a row before the gateway gives up
LONGEST_PAUSE = 30.0  # seconds between two of them
RUNS = 2  # tries of a job whose engine dies before its first output
IDLE = 0.05  # cores; a silent engine that uses less CPU is stuck
LOG_EVERY = 10.0  # seconds between two log lines about one stage
MOST_SILENT = 20  # heartbeat timeouts that a working engine may be silent


class Report(Protocol):
    """Reports the stage of a start and its progress; may be called from any thread."""

    def __call__(self, stage: str, progress: Progress | None = None) -> None: ...


log = structlog.get_logger()


class Supervisor:
    """Runs the engine that `make` returns, and another when it dies; `make` gets a function to report with.

    An engine that produced no token and answered no probe for `heartbeat_timeout` seconds is killed
    only if it also uses no CPU: a slow machine can be busy with one long step.
    """

    def __init__(
        self, make: Callable[[Report], Engine], metrics: Metrics, heartbeat_timeout: float = 30.0
    ) -> None:
        self._make = make
        self._metrics = metrics
        self._timeout = heartbeat_timeout
        self._silent = 0.0  # seconds, excluding time while this process was suspended
        self._looked = time.monotonic()
        self._effort = 0.0  # CPU seconds of the engine when it had been silent for `_since` seconds
        self._since = 0.0
        self._probe: asyncio.Task[None] | None = None
        self._run: asyncio.Task[None] | None = None  # the task of `run`
        self._model: Model | None = None
        self._poison = PoisonDetector()
        self._blamed: Engine | None = None
        self._changed = asyncio.Event()  # set and replaced whenever an engine becomes ready or is given up
        self._engine: Engine | None = None
        self._starting: Engine | None = None
        self._began = time.monotonic()
        self._usage = EngineUsage(metrics)
        self._stage = "starting"
        self._progress: Progress | None = None
        self._logged = 0.0  # when a line about the start was last written

    @property
    def stage(self) -> str:
        """What the engine is doing, for people to read."""
        if self._engine is not None and self._engine.failed:
            return "the engine died"
        return f"{self._stage}: {self._progress}" if self._progress else self._stage

    @property
    def progress(self) -> Progress | None:
        """Bytes of the weights fetched or loaded so far, in the stages that do so."""
        return self._progress

    @property
    def ready(self) -> bool:
        return self._engine is not None and not self._engine.failed

    @property
    def elapsed(self) -> float:
        """Seconds since the current start began."""
        return time.monotonic() - self._began

    @property
    def model(self) -> Model:
        """The model; also known while an engine is being replaced."""
        return self._model or self._running().model

    def check(self) -> None:
        """Raise EngineNotReady (503) while no engine runs."""
        self._running()

    @property
    def info(self) -> EngineInfo:
        return self._running().info

    @property
    def failed(self) -> bool:
        return not self.ready

    def measure(self) -> None:
        """Update the metrics of the running engine's memory and CPU time; may be called from any thread."""
        engine = self._engine
        self._usage.measure(None if engine is None or engine.failed else engine)

    async def start(self) -> None:
        """Start an engine once. Raises the error of its start."""
        self._began = time.monotonic()
        engine = self._starting = self._make(self._set_stage)
        await engine.start()
        self._engine, self._starting = engine, None
        self._model = engine.model
        self._silent = 0.0
        self._metrics.set_engine(asdict(engine.info))
        log.info("engine_runs", **asdict(engine.info))
        self._set_stage("ready")
        self._wake()
        self._metrics.ready.set(1)

    async def run(self) -> None:
        """Start the engine and keep one running, until cancelled.

        Raises the error of the first start, because the settings are wrong then; later, the error of the last
        of ATTEMPTS failed starts in a row.
        """
        self._run = asyncio.current_task()
        await self.start()
        while True:
            await asyncio.sleep(POLL)
            if self.ready:
                self._listen()
                continue
            log.error("engine_died")
            self._began = time.monotonic()
            self._set_stage("starting again")
            await self._end()
            await self._start_again()

    async def check_constraint(self, constraint: Constraint) -> None:
        """Check with the running engine. Raises EngineNotReady (503) if there is none."""
        await self._running().check_constraint(constraint)

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        """Yield the deltas of `job`; if the engine dies before the first one, run it on the next engine.

        Raises EngineNotReady (503) while no engine runs, EngineDied, and PoisonRequest if this job has killed
        engines before.
        """
        sent, engine = False, self._running()
        for run in range(1, RUNS + 1):
            trial = await self._poison.enter(job)
            try:
                # Not the engine from before the wait: it may be dead, and the job would lose a run.
                engine = await self._living()
                self._poison.begin(trial, engine)
                async with aclosing(engine.generate(job)) as deltas:
                    async for delta in deltas:
                        if not sent:
                            sent = True
                            self._poison.survived(trial)
                        self._silent = 0.0
                        yield delta
            except EngineDied:
                if self._blamed is not engine:  # Once per death, while every job still counts as running.
                    self._blamed = engine
                    self._poison.engine_died(engine)
                if sent or run == RUNS:
                    raise
            else:
                self._poison.finished(trial)
                return
            finally:
                self._poison.leave(trial)
            self._metrics.rerun.inc()
            await self._another(engine)

    async def shutdown(self, *, at_once: bool = False) -> None:
        """End the engine, and `run` before it, which would start another engine.

        With `at_once` the engine is killed: vLLM would finish the current step, which can take seconds.
        """
        if self._run is not None:
            self._run.cancel()
        if at_once and self._engine is not None:
            self._engine.kill()
        self._set_stage("stopped")
        await self._end()
        self._wake()

    async def _another(self, dead: Engine) -> None:
        """Wait until an engine other than `dead` runs, or the supervisor has stopped."""
        while self._engine is dead or (self._engine is None and self._stage != "stopped"):
            await self._changed.wait()

    async def _living(self) -> Engine:
        """Return the running engine, or the next one. Raises EngineNotReady (503) if there will be none."""
        while not self.ready and self._stage != "stopped":
            await self._changed.wait()
        return self._running()

    def _wake(self) -> None:
        """Wake the jobs that wait for another engine."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _listen(self) -> None:
        """Kill the engine if it is stuck; probe it if it has been silent."""
        engine, now = self._running(), time.monotonic()
        self._silent += min(now - self._looked, 2 * POLL)
        self._looked = now
        if self._probe is not None and self._probe.done():
            if not self._probe.cancelled() and self._probe.exception() is None:
                self._silent = 0.0
            self._probe = None
        if self._silent > self._timeout / 2 and self._probe is None:
            self._probe = asyncio.create_task(engine.beat())
            self._since, self._effort = self._silent, engine.effort()
        watched = self._silent - self._since
        if self._silent <= self._timeout or watched < self._timeout / 2:
            return
        worked = engine.effort() - self._effort
        if worked > IDLE * watched and self._silent < MOST_SILENT * self._timeout:
            # Its earlier work does not count again: watch it from now on.
            self._since, self._effort = self._silent, engine.effort()
            return
        log.error("engine_hangs", silent_seconds=round(self._silent, 1), cpu_seconds=round(worked, 1))
        self._metrics.engine_hangs.inc()
        engine.kill()
        self._silent = 0.0  # Its death is noticed later.

    def _running(self) -> Engine:
        if self._engine is None or self._engine.failed:
            raise EngineNotReady(
                f"the engine is starting: {self.stage} ({self.elapsed:.0f} s)", retry_after=5
            )
        return self._engine

    def _set_stage(self, stage: str, progress: Progress | None = None) -> None:
        changed, self._stage, self._progress = stage != self._stage, stage, progress
        self._metrics.set_loading(progress)
        now = time.monotonic()
        if changed or now - self._logged >= LOG_EVERY:  # Progress is reported twice a second.
            self._logged = now
            more = {"progress": str(progress)} if progress else {}
            log.info("engine_stage", stage=stage, seconds=round(self.elapsed, 1), **more)

    async def _end(self) -> None:
        self._metrics.ready.set(0)
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        engines, self._engine, self._starting = (self._engine, self._starting), None, None
        for engine in engines:
            if engine is None:
                continue
            try:
                await engine.shutdown()
            except Exception:
                # The remains of a dead engine must not prevent the next start.
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
                self._set_stage(f"waiting to start again: start {attempt} of {ATTEMPTS} failed")
                await asyncio.sleep(min(LONGEST_PAUSE, 2.0**attempt))
            else:
                return
