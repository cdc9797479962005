"""Measures what the engine's processes take of the machine, when the metrics are read."""

from threading import Lock

from gateway.engine.interface import Engine
from gateway.telemetry.metrics import Metrics


class EngineUsage:
    """The memory of the engine that runs, and the CPU time of all engines since the gateway's start."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = Lock()  # the metrics may be read twice at once
        self._engine: Engine | None = None  # measured last
        self._seconds = 0.0  # its CPU time then

    def measure(self, engine: Engine | None) -> None:
        """Update the metrics; takes milliseconds, so call it outside the event loop."""
        memory, seconds = (0, 0.0) if engine is None else (engine.memory(), engine.effort())
        with self._lock:
            self._metrics.engine_memory.set(memory)
            before = self._seconds if engine is self._engine else 0.0  # a new engine starts from 0
            self._metrics.engine_cpu.inc(max(0.0, seconds - before))
            self._engine, self._seconds = engine, seconds
