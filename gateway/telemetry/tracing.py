"""Spans over OTLP: one per request, with a child for each step. `OTEL_*` variables turn them on.

OpenTelemetry is imported only if tracing is on. A request puts its spans into a bounded queue; a thread sends
them. Attributes follow the semantic conventions for HTTP and generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/); all others are named `gateway.…`.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.telemetry.request_log import RequestLog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

FLUSH_TIMEOUT: Final = 5.0  # seconds at shutdown for spans that are not sent yet
PROTOCOLS: Final = ("http/protobuf", "grpc")
SERVICE: Final = "llava-gateway"
_QUIET: Final = 60.0  # seconds between two log lines about a collector that does not answer
_BASE, _TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "chat",
}

log = structlog.get_logger()


def exporters(environ: Mapping[str, str]) -> list[str]:
    """Return the exporters named by `OTEL_*` variables; none if tracing is off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = environ.get("OTEL_TRACES_EXPORTER", "").lower().replace(" ", "")
    if not named:
        return ["otlp"] if environ.get(_BASE) or environ.get(_TRACES) else []
    return [name for name in named.split(",") if name not in ("", "none")]


def protocol(environ: Mapping[str, str]) -> str:
    """Return `http/protobuf`, OpenTelemetry's default, or `grpc`."""
    given = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return given or "http/protobuf"


def engine_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make vLLM send its spans to the same collector; empty if tracing is off."""
    kind = protocol(environ)
    if "otlp" not in exporters(environ) or kind not in PROTOCOLS:  # `start` reports a wrong protocol
        return {}
    endpoint = environ.get(_TRACES)
    if not endpoint and kind == "grpc":
        endpoint = environ.get(_BASE) or "http://localhost:4317"
    if not endpoint:
        endpoint = (environ.get(_BASE) or "http://localhost:4318").rstrip("/") + "/v1/traces"
    return {
        _TRACES: endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": kind,
        "OTEL_SERVICE_NAME": environ.get("OTEL_SERVICE_NAME") or SERVICE,
    }


def start(environ: Mapping[str, str]) -> "Tracing | None":
    """Return a new Tracing, or None if tracing is off or OpenTelemetry is not installed."""
    wanted = exporters(environ)
    if not wanted:
        return None
    try:
        return Tracing([_exporter(name, environ) for name in wanted], environ)
    except ImportError as error:
        reason = f"{error.name} is not installed; pip install 'llava-gateway[otel]'"
    except ValueError as error:
        reason = str(error)
    log.error("tracing_off", reason=reason)
    return None


async def close(tracing: "Tracing | None") -> None:
    """Send the remaining spans, if tracing is on."""
    if tracing is not None:
        await tracing.close()


def _exporter(name: str, environ: Mapping[str, str]) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER: got {name!r}; it can be `otlp`, `console` or `none`")
    kind = protocol(environ)
    if kind not in PROTOCOLS:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL: got {kind!r}; it can be `http/protobuf` or `grpc`")
    if kind == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGRPC

        return OverGRPC()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHTTP

    return OverHTTP()


class Tracing:
    """Creates and sends spans. `OTEL_TRACES_SAMPLER` chooses the sampler."""

    def __init__(self, exporters: "list[SpanExporter]", environ: Mapping[str, str]) -> None:
        from opentelemetry import propagate, trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        about = {"service.version": version("llava-gateway")} | ({} if named else {"service.name": SERVICE})
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("gateway", version("llava-gateway"))
        self._trace, self._propagate = trace, propagate
        _limit_failure_lines()

    def begin(self, request_log: RequestLog, method: str, headers: Mapping[str, str]) -> None:
        """Open the request's span, as a child of the one that `traceparent` names."""
        span = self._tracer.start_span(
            method,
            self._propagate.extract(headers),
            self._trace.SpanKind.SERVER,
            {"http.request.method": method},
            start_time=request_log.wall_time(request_log.began),
        )
        request_log.span = span
        self._propagate.inject(request_log.trace_headers, self._trace.set_span_in_context(span))

    def end(
        self, request_log: RequestLog, route: str, status: int, outcome: str, code: str, **fields: str
    ) -> None:
        """Close the span, with a child for each step; `fields` are those of the log line."""
        span, request_log.span = request_log.span, None
        if span is None or not span.is_recording():
            return
        method = span.attributes["http.request.method"]
        model = request_log.facts.get("model")
        operation = _OPERATIONS.get(route)
        span.update_name(f"{operation} {model}" if operation and model else f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        span.set_attributes({f"gateway.{name}": value for name, value in fields.items()})
        span.set_attribute("gateway.outcome", outcome)
        if operation:
            span.set_attributes({"gen_ai.operation.name": operation, "gen_ai.provider.name": "vllm"})
        span.set_attributes(_answer_attributes(request_log))
        if outcome != "ok":
            span.set_attribute("error.type", code or outcome)
        if outcome in ("failed", "stream_failed"):
            span.set_status(self._trace.StatusCode.ERROR, code)
        for when, image in request_log.images:
            span.add_event("gateway.image", image, request_log.wall_time(when))
        inside = self._trace.set_span_in_context(span)
        for step in request_log.steps:
            child = self._tracer.start_span(
                step.name, inside, start_time=request_log.wall_time(step.ended - step.seconds)
            )
            child.end(request_log.wall_time(step.ended))
        span.end()

    async def close(self) -> None:
        """Send the remaining spans, including vLLM's of this process, for at most FLUSH_TIMEOUT seconds."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            for provider in (self._provider, self._trace.get_tracer_provider()):
                with suppress(Exception):  # Too late to report an error.
                    getattr(provider, "shutdown", lambda: None)()
            with suppress(RuntimeError):  # The loop has ended.
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=send, name="last-spans", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await done.wait()
        except TimeoutError:
            log.warning("spans_not_sent", seconds=FLUSH_TIMEOUT)


def trace_id(span: "Span | None") -> str | None:
    """Return the trace id of `span` as it is logged."""
    return None if span is None else f"{span.get_span_context().trace_id:032x}"


def _answer_attributes(request_log: RequestLog) -> dict[str, Any]:
    """Return the attributes of the answer, by the semantic conventions' names."""
    if "model" not in request_log.facts:
        return {}
    found: dict[str, Any] = {
        "gen_ai.response.id": request_log.facts["id"],
        "gen_ai.response.model": request_log.facts["model"],
    }
    if request_log.finish_reasons:
        found["gen_ai.response.finish_reasons"] = request_log.finish_reasons
    if "prompt_tokens" in request_log.facts:
        found["gen_ai.usage.input_tokens"] = request_log.facts["prompt_tokens"]
        found["gen_ai.usage.output_tokens"] = request_log.facts["completion_tokens"]
        found["gen_ai.usage.cache_read.input_tokens"] = request_log.cached_tokens
    if request_log.facts.get("stream") and request_log.first is not None:
        found["gen_ai.response.time_to_first_chunk"] = request_log.first - request_log.began
    return found


class _OncePerMinute(logging.Handler):
    """Logs OpenTelemetry's own warnings, at most one per minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last = float("-inf")
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._last < _QUIET:
            self._left_out += 1
            return
        more = {"left_out": self._left_out} if self._left_out else {}
        self._last, self._left_out = now, 0
        log.warning("tracing_failed", reason=record.getMessage(), **more)


def _limit_failure_lines() -> None:
    """Log OpenTelemetry's own failures at most once per minute."""
    logger = logging.getLogger("opentelemetry")
    logger.propagate = False
    if not any(isinstance(handler, _OncePerMinute) for handler in logger.handlers):
        logger.addHandler(_OncePerMinute())
