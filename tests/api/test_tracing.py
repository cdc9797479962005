"""Spans over OTLP tell what a request was and where its time went, and cost a request nothing but that."""

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes
from PIL import Image
from structlog.testing import capture_logs

from gateway.errors import GenerationFailed
from gateway.telemetry import request_log, tracing
from tests.api.asking import PROMPT_TOKENS, ask, chat, idle, image, saying, send, text
from tests.api.wire import CHAT, connected, post
from tests.collector import Collector, collecting, collecting_over_grpc
from tests.images.pictures import url_of
from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import free_port, scripted_gateway, until

SECRET = "a very private question"
PICTURE = url_of(Image.effect_noise((50, 40), 90))
PARENT = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
TRACEPARENT = f"00-{PARENT[0]}-{PARENT[1]}-01"
ENGINE = {"queue": 1.0, "prefill": 2.0, "generate": 3.0}
STANDARD = {
    value
    for module in (gen_ai_attributes, http_attributes, error_attributes)
    for value in vars(module).values()
    if isinstance(value, str)
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Yield a collector that gateways send their spans to."""
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield found


async def test_spans_of_a_request_are_the_request(collector: Collector) -> None:
    engine = ScriptedEngine()
    began = time.time()
    with capture_logs() as lines:
        async with scripted_gateway(engine) as gateway:
            body = chat(messages=saying(text(SECRET), image(PICTURE)), temperature=0.5, seed=7, max_tokens=9)
            answer = await ask(gateway, body, traceparent=TRACEPARENT, x_request_id="mine")
    ended = time.time()
    (span,) = [found for found in collector.spans if found.name == f"chat {MODEL.name}"]

    assert (span.trace, span.parent) == PARENT
    assert began <= span.start <= span.end <= ended
    assert answer.headers["traceresponse"] == f"00-{PARENT[0]}-{span.id}-01"
    assert engine.jobs[0].trace_headers == {"traceparent": answer.headers["traceresponse"]}
    (line,) = [found for found in lines if found["event"] == "request" and found["route"] == CHAT]
    assert line["trace_id"] == span.trace
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.output.type": "text",
        "gen_ai.request.model": MODEL.name,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 0,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 1,
        "gen_ai.request.stream": False,
        "gen_ai.response.id": line["id"],
        "gen_ai.response.model": MODEL.name,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": line["prompt_tokens"],
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gateway.images": 1,
        "gateway.outcome": "ok",
        "gateway.request_id": "mine",
        "gateway.caller": "address:127.0.0.1",
    }
    assert {name for name in span.attributes if not name.startswith("gateway.")} <= STANDARD
    ((event, about),) = span.events
    assert event == "gateway.image"
    assert about.pop("gateway.image.bytes") > 100
    assert about == {
        "gateway.image.format": "png",
        "gateway.image.width": 50,
        "gateway.image.height": 40,
        "gateway.image.source": "data",
        "gateway.image.cached": False,
    }
    steps = collector.children(span)
    times = dict.fromkeys((step.name for step in steps), 0.0)
    for step in steps:
        assert step.trace == span.trace
        assert step.end <= span.end
        times[step.name] += step.seconds
    assert times == {name: pytest.approx(seconds, abs=1e-3) for name, seconds in line["times"].items()}
    assert (
        times.items() >= {name: pytest.approx(seconds, abs=1e-6) for name, seconds in ENGINE.items()}.items()
    )
    by_name = {step.name: step for step in steps}
    assert by_name["queue"].end == pytest.approx(by_name["prefill"].start, abs=1e-6)
    assert by_name["prefill"].end == pytest.approx(by_name["generate"].start, abs=1e-6)
    assert span.resource["service.name"] == "llava-gateway"
    assert SECRET.encode() not in b"".join(collector.raw)
    assert PICTURE[30:60].encode() not in b"".join(collector.raw)


async def test_stream_tells_when_its_first_chunk_was_there(collector: Collector) -> None:
    async with scripted_gateway(ScriptedEngine(pause=0.05)) as gateway:
        await ask(gateway, chat(stream=True, n=2))
    (span,) = collector.wait(f"chat {MODEL.name}")
    assert span.parent == ""
    assert 0.05 <= span.attributes["gen_ai.response.time_to_first_chunk"] < span.seconds
    assert span.attributes["gen_ai.response.finish_reasons"] == ["stop", "stop"]
    assert span.attributes["gen_ai.usage.input_tokens"] == PROMPT_TOKENS


UNSET, ERROR = 0, 2


FAILURE = GenerationFailed("it died")


@pytest.mark.parametrize(
    ("fails_at", "body", "expected"),
    [
        (None, chat(model="x"), (f"POST {CHAT}", UNSET, "model_not_found")),
        (0, chat(), (f"chat {MODEL.name}", ERROR, "generation_failed")),
        (1, chat(stream=True), (f"chat {MODEL.name}", ERROR, "generation_failed")),
    ],
)
async def test_what_went_wrong_is_told(
    collector: Collector, fails_at: int | None, body: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    engine = ScriptedEngine() if fails_at is None else ScriptedEngine(error=FAILURE, fails_at=fails_at)
    async with scripted_gateway(engine) as gateway:
        await ask(gateway, body)
    (span,) = collector.wait(expected[0])
    assert (span.name, span.status, span.attributes["error.type"]) == expected


async def test_client_that_leaves_is_told(collector: Collector) -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine) as gateway:
        async with connected(gateway) as connection:
            await connection.send(post(chat()))
            await until(lambda: engine.running == 1)
        await idle(gateway)
    (span,) = collector.wait(f"chat {MODEL.name}")
    assert (span.status, span.attributes["error.type"]) == (UNSET, "client_left")
    assert span.attributes["http.response.status_code"] == 499


async def test_spans_are_sent_over_grpc_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting_over_grpc() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        async with scripted_gateway(ScriptedEngine()) as gateway:
            await ask(gateway, chat(), traceparent=TRACEPARENT)
        (span,) = collector.wait(f"chat {MODEL.name}")
    assert (span.trace, span.parent) == PARENT
    assert {step.name for step in collector.children(span)} >= set(ENGINE)


def test_missing_exporter_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
    monkeypatch.setitem(sys.modules, module, None)
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with capture_logs() as lines:
        assert tracing.start(variables) is None
    (line,) = lines
    assert line["reason"] == f"{module} is not installed; pip install 'llava-gateway[otel]'"


async def test_other_routes_have_spans_but_for_what_is_polled(collector: Collector) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        for path in ("/health", "/metrics", "/v1/models", f"/{SECRET}"):
            await send(gateway, "GET", path)
    assert {span.name for span in collector.spans} == {"GET /v1/models", "GET unmatched"}


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False)])
async def test_whoever_calls_decides_whether_there_is_a_span(
    collector: Collector, flags: str, sampled: bool
) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        answer = await ask(gateway, chat(), traceparent=TRACEPARENT[:-2] + flags)
    assert answer.headers["traceresponse"].endswith(f"-{flags}")
    assert bool(collector.spans) is sampled


@pytest.mark.parametrize("broken", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 9000])
async def test_broken_traceparent_begins_a_trace_of_its_own(collector: Collector, broken: str) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        assert (await ask(gateway, chat(), traceparent=broken)).status == 200
    (span,) = collector.wait(f"chat {MODEL.name}")
    assert span.parent == ""


async def test_collector_that_is_away_costs_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setattr(tracing, "FLUSH_TIMEOUT", 2.0)
    for handler in logging.getLogger("opentelemetry").handlers[:]:
        logging.getLogger("opentelemetry").removeHandler(handler)
    with capture_logs() as lines:
        async with scripted_gateway(ScriptedEngine()) as gateway:
            for _ in range(20):
                assert (await ask(gateway)).status == 200
            await until(lambda: any(line["event"] == "tracing_failed" for line in lines))
            began = time.monotonic()
        assert time.monotonic() - began < 6
    assert len([line for line in lines if line["event"] == "tracing_failed"]) == 1


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "x"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, []),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, []),
    ],
)
def test_tracing_is_on_by_opentelemetrys_variables(variables: dict[str, str], expected: list[str]) -> None:
    assert tracing.exporters(variables) == expected


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://c"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, "http://c/x"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        ({"OTEL_TRACES_EXPORTER": "console"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, None),
        ({}, None),
    ],
)
def test_engine_sends_its_spans_where_ours_go(variables: dict[str, str], endpoint: str | None) -> None:
    found = tracing.engine_variables(variables)
    assert found.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == endpoint


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]
)
def test_what_cannot_be_done_is_told_and_tracing_is_off(name: str, value: str) -> None:
    with capture_logs() as lines:
        assert tracing.start({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", name: value}) is None
    (line,) = lines
    assert line["event"] == "tracing_off"
    assert repr(value) in line["reason"]


def test_opentelemetry_is_not_even_imported_where_tracing_is_off() -> None:
    program = (
        "import os, sys, gateway.app\n"
        "from gateway.telemetry import tracing\n"
        "assert tracing.start(os.environ) is None\n"
        "print(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_page_tells_the_steps_the_variables_and_the_bound() -> None:
    page = (Path(__file__).parents[2] / "docs/tracing.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)[: len(request_log.STEPS)] == list(
        request_log.STEPS
    )
    assert f"at most {tracing.FLUSH_TIMEOUT:g} seconds" in page
    named = re.findall(r"`(gen_ai[\w.]+|error\.type)`", page)
    assert len(named) == 5
    assert set(named) <= STANDARD
