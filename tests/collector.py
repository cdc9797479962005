"""A collector of OpenTelemetry's: takes spans over OTLP, HTTP or gRPC, and keeps them for a test."""

import gzip
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True)
class Span:
    """A span as it came; ids are hexadecimal, times in seconds since 1970."""

    name: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    status: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass
class Collector:
    url: str = ""
    spans: list[Span] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def children(self, parent: Span) -> list[Span]:
        return [span for span in self.spans if span.parent == parent.id]

    def wait(self, name: str, count: int = 1, seconds: float = 30.0, trace: str = "") -> list[Span]:
        """Return the spans named `name`, of `trace` if given, once there are `count`.

        Raises AssertionError after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while len(found := [s for s in self.spans if s.name == name and trace in ("", s.trace)]) < count:
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.01)
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on this machine."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.raw.append(body)
            collector.spans += _spans(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def collecting_over_grpc() -> Iterator[Collector]:
    """Run a collector on this machine that speaks OTLP/gRPC."""
    collector = Collector()

    def export(body: bytes, _: object) -> bytes:
        collector.raw.append(body)
        collector.spans += _spans(body)
        return b""  # an ExportTraceServiceResponse without a word

    methods = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


def _spans(body: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9,
                    span.status.code,
                    _attributes(span.attributes),
                    [(event.name, _attributes(event.attributes)) for event in span.events],
                    resource,
                )


def _attributes(found: Any) -> dict[str, Any]:
    return {entry.key: _value(entry.value) for entry in found}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(inside) for inside in value.array_value.values]
    return getattr(value, kind)
