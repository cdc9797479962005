"""vLLM's exporter, configured by the gateway, sends its spans under the gateway's. No engine runs."""

import os
import subprocess
import sys

import pytest

from tests.collector import collecting

PROGRAM = """
import os
from gateway.engine.environment import applied
from gateway.telemetry import tracing
variables = tracing.engine_variables(os.environ)
with applied(variables):
    from vllm.config.observability import ObservabilityConfig
    from vllm.tracing import SpanKind, extract_trace_context, init_tracer, instrument_manual
    endpoint = variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    ObservabilityConfig(otlp_traces_endpoint=endpoint)
    init_tracer("vllm.llm_engine", endpoint)
context = extract_trace_context({"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})
instrument_manual(span_name="llm_request", start_time=1, context=context, kind=SpanKind.SERVER)
"""


@pytest.mark.engine
def test_vllms_spans_go_where_ours_go_and_under_them() -> None:
    with collecting() as collector:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=clean | told, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    (span,) = collector.spans
    assert (span.name, span.trace, span.parent) == ("llm_request", "a" * 32, "b" * 16)
    assert span.resource["service.name"] == "llava-gateway"
