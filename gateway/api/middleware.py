"""What every request gets: an id, a line in the log, metrics, and an answer in every case."""

import re
import time
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.callers import Caller, Callers
from gateway.answering.context import RequestContext
from gateway.answering.deadlines import RunningRequests
from gateway.answering.lifecycle import Lifecycle
from gateway.api import paths
from gateway.api.browsers import BrowserGuard
from gateway.api.errors import error_response
from gateway.api.streaming import ClientLeft
from gateway.errors import GatewayError
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.request_log import SAMPLED, begin
from gateway.telemetry.sampling import Sampler
from gateway.telemetry.tracing import Tracing, trace_id

SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
QUIET = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})  # asked for every few seconds
INTERNAL_ERROR = "internal error; see the gateway log"
STATIC = "static"  # one metric label for the files of the playground and the docs
CLIENT_LEFT = 499  # nginx's status for it, in metrics and logs only: the client is gone

log = structlog.get_logger()


class RequestMiddleware:
    """The outermost middleware. Pure ASGI: it neither buffers bodies nor adds tasks."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        lifecycle: Lifecycle,
        callers: Callers,
        open_paths: frozenset[str],
        *,
        static_paths: frozenset[str] = frozenset(),
        guard: BrowserGuard,
        running: RunningRequests,
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._callers = callers
        self._open = open_paths
        self._static = static_paths
        self._guard = guard
        self._running = running
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._sampler = Sampler()
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        observed = Observed(scope, send, self._lifecycle)
        method = scope["method"]
        if self._tracing is not None and scope["path"] not in QUIET:
            self._tracing.begin(observed.trail, method, Headers(scope=scope))
        scope = paths.canonical(scope)
        try:
            self._guard.check(method, scope["path"], Headers(scope=scope))
            observed.caller = caller = self._identify(scope)
            with self._running.request() as running:
                if caller is not None:
                    observed.context = RequestContext(caller, running, observed.trail)
                    scope["state"]["context"] = observed.context
                await self._app(scope, receive, observed.send)
        except GatewayError as error:  # of the guard, the identity, a shutdown: others are answered within
            if observed.status:
                observed.trail.broke = error  # the server closes the connection, as the answer is not whole
            else:
                await error_response(error)(scope, receive, observed.send)
        except ClientLeft:
            observed.status = CLIENT_LEFT
        except Exception:
            log.exception("request_failed", request_id=observed.id)
            if observed.status:
                observed.trail.broke = GatewayError(INTERNAL_ERROR)
                raise  # the server closes the connection, so that the client does not take half for whole
            await error_response(GatewayError(INTERNAL_ERROR))(scope, receive, observed.send)
        finally:
            self._finish(scope, method, observed)

    def _identify(self, scope: Scope) -> Caller | None:
        """Return the caller, None for paths that are open to all. Raises InvalidAPIKey."""
        if scope["path"] in self._open or scope["method"] == "OPTIONS":
            return None
        client = scope["client"]
        return self._callers.identify(Headers(scope=scope), client[0] if client else "")

    def _finish(self, scope: Scope, method: str, observed: "Observed") -> None:
        seconds = time.perf_counter() - observed.began
        # An unknown path must not become a label: clients can send any number of them.
        route = getattr(scope.get("route"), "path", "unmatched")
        # Each file of the playground would have its own histogram, of no use.
        label = STATIC if route in self._static else route
        self._metrics.requests.labels(label, str(observed.status)).inc()
        self._metrics.request_seconds.labels(label).observe(seconds)
        left = observed.status == CLIENT_LEFT
        outcome, code = observed.trail.outcome(observed.status, left=left)
        self._metrics.outcomes.labels(label, outcome, code).inc()
        if left:
            self._metrics.client_left.labels(observed.trail.stage).inc()
        cause = observed.trail.cause()
        if cause is not None and cause[1].code != GatewayError.code:  # Those are in the log already.
            log.error("request_failed", request_id=observed.id, code=cause[1].code, exc_info=cause)
        traced = self._end_span(route, outcome, code, observed)
        left_out = self._sampler.admit(route, outcome, code) if outcome in SAMPLED else 0
        if left_out is None:
            return
        more: dict[str, Any] = {"left_out": left_out} if left_out else {}
        if observed.caller is not None:
            more["caller"] = observed.caller.name
        if traced:
            more["trace_id"] = traced
        if times := observed.trail.times:
            more["times"] = {step: round(spent, 4) for step, spent in times.items()}
        level = "debug" if route in QUIET else "info"
        getattr(log, level)(
            "request",
            request_id=observed.id,
            method=method,
            route=route,
            status=observed.status,
            outcome=f"{outcome}:{code}" if code else outcome,
            seconds=round(seconds, 4),
            **more,
            **observed.trail.facts,
        )

    def _end_span(self, route: str, outcome: str, code: str, observed: "Observed") -> str | None:
        """Close the request's span and return its trace's id, where there is one."""
        span = observed.trail.span
        if self._tracing is None or span is None:
            return None
        attributes = {"request_id": observed.id}
        if observed.caller is not None:
            attributes["caller"] = observed.caller.name
        self._tracing.end(observed.trail, route, observed.status, outcome, code, **attributes)
        return trace_id(span)


class Observed:
    """One request and what was answered."""

    def __init__(self, scope: Scope, send: Send, lifecycle: Lifecycle) -> None:
        self.began = time.perf_counter()
        self.trail = begin()
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        self.id = asked if SANE_ID.fullmatch(asked) else f"req_{uuid4().hex}"
        self.status = 0
        self._expects = "expect" in headers
        self._lifecycle = lifecycle
        self.caller: Caller | None = None
        self.context: RequestContext | None = None
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            headers["x-request-id"] = self.id
            if traced := self.trail.trace_headers.get("traceparent"):
                headers["traceresponse"] = traced
            headers["openai-processing-ms"] = str(round((time.perf_counter() - self.began) * 1000))
            if self._expects and self.status >= HTTPStatus.BAD_REQUEST:
                # The client may now send the body that it held back, or its next request in the body's place:
                # both are possible (RFC 9110, 10.1.1).
                headers["connection"] = "close"
            if self.context is not None:
                for name, value in self.context.limit_headers.items():
                    headers.setdefault(name, value)  # A refusal's own are newer.
            if self._lifecycle.draining:
                headers["connection"] = "close"
        await self._send(message)
