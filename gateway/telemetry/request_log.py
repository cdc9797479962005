"""Records one request while it runs: its stage, its timings and its outcome."""

import time
from collections import defaultdict
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple

from gateway.errors import EngineNotReady, GatewayError, Overloaded, RequestError, ShuttingDown

Cause = tuple[type[GatewayError], GatewayError, TracebackType | None]  # as `exc_info`
Stage = Literal["start", "waiting", "body", "images", "engine", "first_token", "answer"]

# Errors of a healthy gateway and engine: the request was not admitted.
REFUSALS: Final = (RequestError, Overloaded, EngineNotReady, ShuttingDown)
CLIENT_LIMIT: Final = "client_limit"
# Outcomes that clients cause. A client can cause any number of them, so only a sample is logged.
SAMPLED: Final = frozenset({"refused", CLIENT_LIMIT})
STEPS: Final = ("wait", "fetch", "decode", "fit", "queue", "prefill", "generate")
_ERROR_STATUS = 400
_SERVER_ERROR = 500


class Step(NamedTuple):
    """A step of a request, with its duration and its end (`time.perf_counter`)."""

    name: str
    seconds: float
    ended: float


class RequestLog:
    """What is recorded of one request. Steps may be added from threads; times are in seconds."""

    def __init__(self) -> None:
        self.stage: Stage = "start"
        self.facts: dict[str, Any] = {}  # for the log line: sizes and names, no content
        self.error: GatewayError | None = None  # the one sent to the client with a status
        self._traceback: TracebackType | None = None  # of `error`
        self.broke: GatewayError | None = None  # the one that ended the generation
        self.steps: list[Step] = []
        self.began = self._since = time.perf_counter()
        self.first: float | None = None  # time of the first delta
        self.finish_reasons: list[str] = []
        self.cached_tokens = 0
        self.span: Any = None  # OpenTelemetry's, if tracing is on
        self.trace_headers: dict[str, str] = {}  # make other spans children of `span`
        self.images: list[tuple[float, dict[str, str | int | bool]]] = []  # time and description of each
        self._clock = time.time_ns() - time.perf_counter_ns()

    def enter(self, stage: Stage) -> None:
        """Begin `stage`. The time in the two stages that wait for other requests is added as `wait`."""
        now = time.perf_counter()
        if self.stage in ("waiting", "engine"):
            self.add("wait", now - self._since)
        if stage == "answer":
            self.first = now
        self.stage, self._since = stage, now

    def add(self, step: str, seconds: float, ended: float | None = None) -> None:
        """Add a step that ended now, or at `ended` (`time.perf_counter`)."""
        # Appending is atomic: the images of a request are decoded in several threads.
        self.steps.append(Step(step, seconds, time.perf_counter() if ended is None else ended))

    def set_attribute(self, name: str, value: str) -> None:
        """Set an attribute of the request's span, if tracing is on."""
        if self.span is not None:
            self.span.set_attribute(name, value)

    def wall_time(self, moment: float) -> int:
        """Return `moment` (`time.perf_counter`) in nanoseconds since 1970."""
        return self._clock + int(moment * 1e9)

    @property
    def times(self) -> dict[str, float]:
        """Return the seconds of each step, in a request's order; those of several images are summed."""
        sums: defaultdict[str, float] = defaultdict(float)
        for step in self.steps:
            sums[step.name] += step.seconds
        return {name: sums[name] for name in STEPS if name in sums}

    @property
    def server_timing(self) -> str:
        """Return the value of the header `Server-Timing`, in milliseconds."""
        return ", ".join(f"{step};dur={spent:.1f}" for step, spent in self.timing.items())

    @property
    def timing(self) -> dict[str, float]:
        """Return the times that clients get, in milliseconds, with the total until now."""
        times = self.times | {"total": time.perf_counter() - self.began}
        return {step: round(seconds * 1000, 1) for step, seconds in times.items()}

    def outcome(self, status: int, *, left: bool) -> tuple[str, str]:
        """Return how the request ended, and the error's code, or an empty one."""
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
        """Keep the error sent to the client, and its traceback, which Starlette removes."""
        self.error, self._traceback = error, error.__traceback__

    def cause(self) -> Cause | None:
        """Return the error whose traceback is logged, if any, and drop all errors.

        A traceback refers to its frames, and these to this object: a cycle.
        """
        error, traceback = self.error or self.broke, self._traceback
        self.error = self.broke = self._traceback = None
        if error is None or error.clients_own or isinstance(error, REFUSALS):
            return None
        return type(error), error, error.__traceback__ or traceback


_CURRENT: ContextVar[RequestLog | None] = ContextVar("request_log", default=None)


def begin() -> RequestLog:
    """Create a request log and make it the task's current one."""
    log = RequestLog()
    _CURRENT.set(log)
    return log


def current() -> RequestLog:
    """Return the current request's log; outside a request, a new one that is discarded."""
    return _CURRENT.get() or RequestLog()
