"""Records one request while it runs: its stage, its timings, and how it ended."""

import time
from collections import defaultdict
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple

from gateway.errors import EngineNotReady, GatewayError, Overloaded, RequestError, ShuttingDown

Cause = tuple[type[GatewayError], GatewayError, TracebackType | None]  # as `exc_info`
Stage = Literal["edge", "waiting", "body", "images", "seat", "first_token", "answer"]

# The gateway and the engine are healthy: the request was not admitted.
REFUSALS: Final = (RequestError, Overloaded, EngineNotReady, ShuttingDown)
CLIENT_LIMIT: Final = "client_limit"
# Outcomes that are the clients' doing. Any client can cause any number of them, so the log has a sample.
SAMPLED: Final = frozenset({"refused", CLIENT_LIMIT})
STEPS: Final = ("wait", "fetch", "decode", "fit", "queue", "prefill", "generate")
_ERROR_STATUS = 400
_SERVER_ERROR = 500


class Step(NamedTuple):
    """Something a request did for a time, and when that ended (`time.perf_counter`)."""

    name: str
    seconds: float
    ended: float


class RequestLog:
    """One request's trail. Steps may be added from threads; times are in seconds."""

    def __init__(self) -> None:
        self.stage: Stage = "edge"
        self.facts: dict[str, Any] = {}  # for the log line: sizes and names, no content
        self.error: GatewayError | None = None  # reported to the client with a status
        self._traceback: TracebackType | None = None  # the former's
        self.broke: GatewayError | None = None  # that ended the generation
        self.steps: list[Step] = []
        self.began = self._since = time.perf_counter()
        self.first: float | None = None  # when the first delta was there
        self.finish_reasons: list[str] = []
        self.cached_tokens = 0
        self.span: Any = None  # OpenTelemetry's, where tracing is on
        self.trace_headers: dict[str, str] = {}  # that put other spans under ours
        self.pictures: list[tuple[float, dict[str, str | int | bool]]] = []  # when, and what of each
        self._clock = time.time_ns() - time.perf_counter_ns()

    def enter(self, stage: Stage) -> None:
        """Begin `stage`; the time of the two stages that wait for other requests is kept as `wait`."""
        now = time.perf_counter()
        if self.stage in ("waiting", "seat"):
            self.add("wait", now - self._since)
        if stage == "answer":
            self.first = now
        self.stage, self._since = stage, now

    def add(self, step: str, seconds: float, ended: float | None = None) -> None:
        """Add a step that ended now, or at `ended` (`time.perf_counter`)."""
        # Appending is atomic: the images of a request are decoded in several threads.
        self.steps.append(Step(step, seconds, time.perf_counter() if ended is None else ended))

    def tell(self, name: str, value: str) -> None:
        """Add an attribute to the request's span, where tracing is on."""
        if self.span is not None:
            self.span.set_attribute(name, value)

    def wall_time(self, moment: float) -> int:
        """Return `moment` (`time.perf_counter`) in nanoseconds since 1970."""
        return self._clock + int(moment * 1e9)

    @property
    def times(self) -> dict[str, float]:
        """Return the steps' seconds, in a request's order; those of several images are added up."""
        sums: defaultdict[str, float] = defaultdict(float)
        for step in self.steps:
            sums[step.name] += step.seconds
        return {name: sums[name] for name in STEPS if name in sums}

    @property
    def server_timing(self) -> str:
        """Return the times in milliseconds, as the header `Server-Timing` has them."""
        return ", ".join(f"{step};dur={spent:.1f}" for step, spent in self.timing.items())

    @property
    def timing(self) -> dict[str, float]:
        """Return the times in milliseconds, as reported to clients, and the request's total until now."""
        told = self.times | {"total": time.perf_counter() - self.began}
        return {step: round(seconds * 1000, 1) for step, seconds in told.items()}

    def outcome(self, status: int, *, left: bool) -> tuple[str, str]:
        """Return how the request ended, and the error's code where there was one."""
        if left:
            return "client_left", ""
        error = self.broke if status < _ERROR_STATUS else self.error
        if error is None:
            if status < _ERROR_STATUS:
                return "ok", ""
            return ("failed" if status >= _SERVER_ERROR else "refused"), str(status)
        if error.clients_own:
            return CLIENT_LIMIT, error.code
        if status < _ERROR_STATUS and not isinstance(error, RequestError):
            return "stream_failed", error.code
        return ("refused" if isinstance(error, REFUSALS) else "failed"), error.code

    def answered(self, error: GatewayError) -> None:
        """Keep the error reported to the client, and its traceback, which Starlette removes."""
        self.error, self._traceback = error, error.__traceback__

    def cause(self) -> Cause | None:
        """Return the error whose traceback the log should have, and let go of all errors.

        A traceback holds its frames, and these hold the trail.
        """
        error, traceback = self.error or self.broke, self._traceback
        self.error = self.broke = self._traceback = None
        if error is None or error.clients_own or isinstance(error, REFUSALS):
            return None
        return type(error), error, error.__traceback__ or traceback


_CURRENT: ContextVar[RequestLog | None] = ContextVar("trail", default=None)


def begin() -> RequestLog:
    """Return a new trail, the current one of the task from now on."""
    trail = RequestLog()
    _CURRENT.set(trail)
    return trail


def current() -> RequestLog:
    """Return the current request's log, or one that is discarded if there is no request."""
    return _CURRENT.get() or RequestLog()
