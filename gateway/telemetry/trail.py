"""What is known of one request while it runs: its stage, where its time went, and how it ended."""

import time
from collections import defaultdict
from contextvars import ContextVar
from typing import Any, Final, Literal

from gateway.errors import EngineNotReady, GatewayError, Overloaded, RequestError, ShuttingDown

Stage = Literal["edge", "waiting", "body", "images", "seat", "first_token", "answer"]

# Nothing is wrong with the gateway or the engine: the request was not let in.
REFUSALS: Final = (RequestError, Overloaded, EngineNotReady, ShuttingDown)
STEPS: Final = ("wait", "fetch", "decode", "fit", "queue", "prefill", "generate")
_ERROR_STATUS = 400
_SERVER_ERROR = 500


class Trail:
    """One request's trail. Steps may be added from threads; times are in seconds."""

    def __init__(self) -> None:
        self.stage: Stage = "edge"
        self.facts: dict[str, Any] = {}  # for the log line: sizes and names, no content
        self.error: GatewayError | None = None  # that the client was told with a status
        self.broke: GatewayError | None = None  # that ended the generation
        self._steps: list[tuple[str, float]] = []
        self._began = self._since = time.perf_counter()

    def enter(self, stage: Stage) -> None:
        """Begin `stage`; the time of the two stages that wait for other requests is kept as `wait`."""
        now = time.perf_counter()
        if self.stage in ("waiting", "seat"):
            self.add("wait", now - self._since)
        self.stage, self._since = stage, now

    def add(self, step: str, seconds: float) -> None:
        # Appending is atomic: the images of a request are decoded in several threads.
        self._steps.append((step, seconds))

    @property
    def times(self) -> dict[str, float]:
        """Return the steps' seconds, in a request's order; those of several images are added up."""
        sums: defaultdict[str, float] = defaultdict(float)
        for step, seconds in self._steps:
            sums[step] += seconds
        return {step: sums[step] for step in STEPS if step in sums}

    @property
    def server_timing(self) -> str:
        """Return the times in milliseconds, as the header `Server-Timing` has them."""
        return ", ".join(f"{step};dur={spent:.1f}" for step, spent in self.timing.items())

    @property
    def timing(self) -> dict[str, float]:
        """Return the times in milliseconds, as clients are told them, and their request's until now."""
        told = self.times | {"total": time.perf_counter() - self._began}
        return {step: round(seconds * 1000, 1) for step, seconds in told.items()}

    def outcome(self, status: int, *, left: bool) -> tuple[str, str]:
        """Return how the request ended, and the error's code where there was one."""
        if left:
            return "client_left", ""
        if status < _ERROR_STATUS:
            return ("stream_failed", self.broke.code) if self.broke else ("ok", "")
        if self.error is None:
            return ("failed" if status >= _SERVER_ERROR else "refused"), str(status)
        return ("refused" if isinstance(self.error, REFUSALS) else "failed"), self.error.code

    def cause(self) -> GatewayError | None:
        """Return the error whose traceback the log should have, and let go of all errors.

        A traceback holds its frames, and these hold the trail.
        """
        error = self.error or self.broke
        self.error = self.broke = None
        return None if isinstance(error, REFUSALS) else error


_CURRENT: ContextVar[Trail | None] = ContextVar("trail", default=None)


def begin() -> Trail:
    """Return a new trail, the current one of the task from now on."""
    trail = Trail()
    _CURRENT.set(trail)
    return trail


def current() -> Trail:
    """Return the trail of the request that this runs for; one that nobody reads where there is none."""
    return _CURRENT.get() or Trail()
