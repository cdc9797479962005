"""What an operator sees of known traffic: exact counts, bounded labels, and a line without content."""

import asyncio
import io
import itertools
import json
from collections.abc import Iterator

import orjson
import pytest
import structlog
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gateway.access.memory_budgets import LOGPROB
from gateway.app import STATIC_PATHS
from gateway.errors import GenerationFailed
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.sampling import PER_SECOND
from tests.api.asking import PROMPT_TOKENS, ask, chat, events, idle, image, saying, send, text
from tests.api.wire import CHAT, connected, post
from tests.images.pictures import url_of
from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import Gateway, metric, scripted_gateway, until
from tests.servers import samples as family
from tests.written_logs import written_to

SECRET = "a very private question"
PICTURE = url_of(Image.effect_noise((50, 50), 90))
REQUESTS = "gateway_requests_total"
OUTCOMES = "gateway_request_outcomes_total"
TIMES = ("queue", "prefill", "generate")  # of the engine


def private(**fields: object) -> dict[str, object]:
    return chat(messages=saying(text(SECRET), image(PICTURE)), **fields)


async def samples(gateway: Gateway) -> list[tuple[str, dict[str, str], float]]:
    page = (await send(gateway, "GET", "/metrics")).body.decode()
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]


async def test_known_traffic_is_counted_exactly() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        assert (await ask(gateway)).status == 200
        await events(gateway, n=2)
        assert (await ask(gateway, chat(messages=saying(image(PICTURE))))).status == 200
        assert (await ask(gateway, chat(messages=saying(image(PICTURE))))).status == 200
        assert (await ask(gateway, chat(n=0))).status == 400
        assert (await ask(gateway, chat(model="x"))).status == 404
        assert (await send(gateway, "PUT", CHAT)).status == 405
        assert (await send(gateway, "GET", "/v1/models")).status == 200
        assert (await send(gateway, "GET", "/v1/models/a/b")).status == 404
        for path in ("/a", "/b", "/v1/c"):
            assert (await send(gateway, "GET", path)).status == 404
        found = await samples(gateway)

    counted = {
        (labels["route"], labels["status"]): value for name, labels, value in found if name == REQUESTS
    }
    assert counted == {
        (CHAT, "200"): 4,
        (CHAT, "400"): 1,
        (CHAT, "404"): 1,
        (CHAT, "405"): 1,
        ("/v1/models", "200"): 1,
        ("/v1/models/{name:path}", "404"): 1,
        ("unmatched", "404"): 3,
    }
    with_picture = PROMPT_TOKENS - len("What is it?") + MODEL.tokens_per_image - len("\n") + 1
    values = {name: value for name, labels, value in found if not labels}
    assert values["gateway_completion_tokens_total"] == 3 + 6 + 3 + 3
    assert values["gateway_prompt_tokens_total"] == 2 * PROMPT_TOKENS + 2 * with_picture
    assert values["gateway_image_tokens_total"] == 2 * MODEL.tokens_per_image
    assert values["gateway_time_to_first_token_seconds_count"] == 1  # of what is streamed
    assert values["gateway_time_between_tokens_seconds_count"] == 4  # two choices, each of three tokens
    assert values["gateway_waiting_seconds_count"] == 6  # every request that got as far as a ticket
    assert (values["gateway_in_flight"], values["gateway_waiting"], values["gateway_ready"]) == (0, 0, 1)

    labelled = {(name, *sorted(labels.items())): value for name, labels, value in found if "le" not in labels}
    assert labelled["gateway_images_total", ("format", "png"), ("source", "data")] == 2
    assert labelled["gateway_image_cache_total", ("result", "hit")] == 1
    assert labelled["gateway_image_cache_total", ("result", "miss")] == 1
    assert labelled["gateway_image_seconds_count", ("step", "fit")] == 1
    assert labelled["gateway_request_seconds_count", ("route", CHAT)] == 7


async def test_files_of_the_page_and_the_docs_share_one_label() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        served = [path for path in sorted(STATIC_PATHS) if "/examples/" not in path]
        for path in served:
            assert (await send(gateway, "GET", path)).status == 200
        found = await samples(gateway)
    routes = {labels["route"] for _, labels, _ in found if "route" in labels}
    assert routes - {"/health/ready"} == {"static"}
    assert [value for name, _, value in found if name == REQUESTS] == [len(served)]


async def test_nothing_that_a_client_says_becomes_a_label() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        before = len(await samples(gateway))
        sizes = []
        for round_ in range(2):
            for number in range(20):
                name = f"{round_}-{number}"
                await send(gateway, "GET", f"/{name}")
                await send(gateway, "GET", f"/v1/models/{name}")
                await send(gateway, "PURGE", f"/{name}", headers={"x-request-id": name})
                await ask(gateway, chat(model=name, user=name), authorization=name)
            sizes.append(len(await samples(gateway)))
        assert sizes[0] == sizes[1]
        assert sizes[0] < before + 100
        assert await metric(gateway, REQUESTS, route="unmatched", status="404") == 80


async def test_answer_that_breaks_is_counted_by_what_the_client_saw() -> None:
    async with scripted_gateway(ScriptedEngine(error=RuntimeError("oops"))) as gateway:
        await ask(gateway)
        assert await metric(gateway, REQUESTS, route=CHAT, status="500") == 1


async def test_failed_streams_are_counted_by_code_and_told_in_the_line() -> None:
    engine = ScriptedEngine(error=GenerationFailed("it died"), fails_at=1)
    with capture_logs() as lines:
        async with scripted_gateway(engine) as gateway:
            await ask(gateway, chat(stream=True))
            labels = {"route": CHAT, "outcome": "stream_failed", "code": "generation_failed"}
            assert await metric(gateway, OUTCOMES, **labels) == 1
    (line,) = [line for line in lines if line["event"] == "request" and line["route"] == CHAT]
    assert (line["status"], line["outcome"]) == (200, "stream_failed:generation_failed")
    (failure,) = [line for line in lines if line["event"] == "request_failed"]
    assert failure["request_id"] == line["request_id"]
    assert isinstance(failure["exc_info"][1], GenerationFailed)


async def test_client_that_leaves_is_counted_by_the_stage_of_its_request() -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine) as gateway:
        async with connected(gateway) as connection:
            await connection.send(post(chat()))
            await until(lambda: engine.running == 1)
        await idle(gateway)
        assert await metric(gateway, "gateway_clients_left_total", stage="first_token") == 1
        assert await metric(gateway, OUTCOMES, route=CHAT, outcome="client_left", code="") == 1


async def test_whole_answer_tells_where_its_time_went() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        answer = await ask(gateway, chat(messages=saying(image(PICTURE))))
    told = dict(entry.split(";dur=") for entry in answer.headers["server-timing"].split(", "))
    assert list(told) == ["wait", "decode", "fit", *TIMES, "total"]
    assert [told[name] for name in TIMES] == ["1000.0", "2000.0", "3000.0"]
    assert all(float(spent) >= 0 for spent in told.values())


async def test_refusals_are_counted_whole_and_logged_in_part() -> None:
    with capture_logs() as lines:
        async with scripted_gateway(ScriptedEngine()) as gateway:
            await asyncio.gather(*(ask(gateway, chat(model="x")) for _ in range(100)))
            labels = {"route": CHAT, "outcome": "refused", "code": "model_not_found"}
            assert await metric(gateway, OUTCOMES, **labels) == 100
    told = [line for line in lines if line.get("outcome") == "refused:model_not_found"]
    assert PER_SECOND <= len(told) < 100


async def test_limits_of_the_clients_own_are_no_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.answering.deadlines.LOOK_EVERY", 0.02)
    engine = ScriptedEngine(("A",) * 3, pause=60)
    form = {"purpose": (None, "user_data"), "file": ("x", bytes(100_000))}
    with capture_logs() as lines:
        async with scripted_gateway(engine, state_max_bytes_per_caller=10_000) as gateway:
            hurry = {"x_stainless_read_timeout": "1e-9"}
            whole = await asyncio.gather(*(ask(gateway, **hurry) for _ in range(100)))
            stream = await ask(gateway, chat(stream=True), **hurry)
            assert (await send(gateway, "POST", "/v1/files", files=form)).status == 507
            found = await samples(gateway)
    assert {(answer.status, answer.error["code"]) for answer in whole} == {(504, "deadline_exceeded")}
    assert stream.error["message"] == (
        "nothing was generated for the 1e-09 s that the client says it waits (x-stainless-read-timeout)"
    )
    outcomes = {tuple(labels.values()): value for name, labels, value in found if name == OUTCOMES}
    assert outcomes == {
        ("deadline_exceeded", "client_limit", CHAT): 101,
        ("storage_quota_exceeded", "client_limit", "/v1/files"): 1,
    }
    assert ("gateway_stalled_requests_total", {}, 0.0) in found
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []
    told = [line for line in lines if line.get("outcome") == "client_limit:deadline_exceeded"]
    assert PER_SECOND <= len(told) < 101


async def test_every_request_has_one_line_with_sizes_and_no_content() -> None:
    with capture_logs() as lines:
        async with scripted_gateway(ScriptedEngine()) as gateway:
            await ask(gateway, private(), authorization=f"Bearer {SECRET}", x_request_id="one")
            await ask(gateway, private(stream=True), x_request_id="two")
            await ask(gateway, private(temperature=SECRET), x_request_id="three")
            await send(gateway, "GET", f"/{SECRET}", headers={"x-request-id": "four"})
            await send(gateway, "GET", "/health/ready", headers={"x-request-id": "five"})
    told = [line for line in lines if line["event"] == "request"]
    for line in told:
        assert 0 <= line.pop("seconds") < 10
        if "id" in line:
            assert line.pop("id").startswith("chatcmpl-")
    common = {
        "event": "request",
        "log_level": "info",
        "method": "POST",
        "route": CHAT,
        "caller": "address:127.0.0.1",
    }
    picture_tokens = MODEL.tokens_per_image - 1
    answered = {"model": MODEL.name, "images": 1, "completion_tokens": 3, "outcome": "ok", "status": 200}
    times = [line.pop("times", {}) for line in told]
    assert [set(found) for found in times] == [
        {"wait", "decode", "fit", *TIMES},
        {"wait", "decode", "fit", *TIMES},
        {"wait"},
        set(),
        set(),
    ]
    prompts = [line.pop("prompt_tokens", 0) for line in told]
    assert prompts[0] == prompts[1] > picture_tokens
    assert told == [
        common | answered | {"request_id": "one", "stream": False},
        common | answered | {"request_id": "two", "stream": True},
        common | {"request_id": "three", "status": 400, "outcome": "refused:invalid_value"},
        common
        | {
            "request_id": "four",
            "status": 404,
            "outcome": "refused:not_found",
            "method": "GET",
            "route": "unmatched",
        },
        {
            "event": "request",
            "request_id": "five",
            "status": 200,
            "outcome": "ok",
            "method": "GET",
            "route": "/health/ready",
            "log_level": "debug",  # asked for every few seconds
        },
    ]
    assert_private(json.dumps(lines, default=str))


def assert_private(written: str) -> None:
    assert SECRET not in written
    assert PICTURE[30:60] not in written
    assert "Bearer" not in written


@pytest.fixture(params=["json", "console"])
def log_page(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Have logs written as in production, to a page that the test can read."""
    page = io.StringIO()
    with written_to(page, request.param):
        yield page


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fails_at", [0, 1])
@pytest.mark.parametrize("error", [RuntimeError("a bug of ours"), GenerationFailed("it died")])
async def test_log_of_a_failure_tells_where_and_nothing_of_the_request(
    log_page: io.StringIO, stream: bool, fails_at: int, error: Exception
) -> None:
    engine = ScriptedEngine(error=error, fails_at=fails_at)
    body = post(
        private(stream=stream), f"authorization: Bearer {SECRET}", "x-request-id: mine", "connection: close"
    )
    async with scripted_gateway(engine) as gateway, connected(gateway) as connection:
        await connection.send(body)
        assert (await connection.head())[0] == (200 if stream and fails_at else 500)
        await connection.rest()
    written = log_page.getvalue()
    assert str(error) in written
    assert "scripted_engine.py" in written
    assert "mine" in written
    assert_private(written)


def test_json_lines_are_json() -> None:
    page = io.StringIO()
    with written_to(page, "json", "info"):
        structlog.get_logger().info("hello", number=3, text="a\nb")
        structlog.get_logger().debug("not shown")
    (line,) = page.getvalue().splitlines()
    content = orjson.loads(line)
    assert content.pop("timestamp").endswith("Z")
    assert content == {"event": "hello", "level": "info", "number": 3, "text": "a\nb"}


def test_no_two_metrics_share_a_name() -> None:
    names = [family.name for family in Metrics().registry.collect()]
    assert len(names) == len(set(names))
    assert all(name.startswith("gateway_") for name in names)
    assert not any(a == f"{b}_total" for a, b in itertools.permutations(names, 2))


async def test_engine_that_runs_is_told_by_labels() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        told = {
            "attention_backend": "CPU_ATTN",
            "version": "0.32.0",
            "dtype": "bfloat16",
            "quantization": "none",
        }
        assert await metric(gateway, "gateway_engine_info", **told) == 1
        assert await metric(gateway, "gateway_kv_cache_tokens") == 4096


async def test_failed_fetches_are_counted_by_reason() -> None:
    unreachable, inside = "http://127.0.0.1:1/a.png", "http://10.0.0.1/a.png"
    async with scripted_gateway(ScriptedEngine(), fetch_allow=("127.0.0.1",)) as gateway:
        for url in (unreachable, inside, inside):
            assert (await ask(gateway, chat(messages=saying(image(url))))).status == 400
        failures = "gateway_image_fetch_failures_total"
        counted = {sample.labels["reason"]: sample.value for sample in await family(gateway, failures)}
    assert counted == {"connection": 1, "address": 2}


async def test_callers_are_told_apart_by_the_names_of_their_keys_alone() -> None:
    async with scripted_gateway(ScriptedEngine(), api_keys=("ann:sk-1",)) as gateway:
        bearer = "Bearer sk-1"
        assert (await ask(gateway, chat(user="me"), authorization=bearer)).status == 200
        for number in range(3):
            assert (await ask(gateway, authorization=f"Bearer sk-{number}-wrong")).status == 401
        requests = await family(gateway, "gateway_caller_requests_total")
        tokens = await family(gateway, "gateway_caller_tokens_total")
    ann = {"caller": "ann", "class": "default"}
    assert [(sample.labels, sample.value) for sample in requests] == [(ann, 1)]
    assert [(sample.labels, sample.value) for sample in tokens] == [(ann, PROMPT_TOKENS + 3)]


async def test_callers_without_a_key_have_one_name_wherever_they_are() -> None:
    settings = {"trusted_proxies": ("127.0.0.1",), "client_address_header": "x-forwarded-for"}
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway:
        for number in range(3):
            assert (await ask(gateway, x_forwarded_for=f"203.0.113.{number}")).status == 200
        requests = await family(gateway, "gateway_caller_requests_total")
    assert [(sample.labels["caller"], sample.value) for sample in requests] == [("no key", 3)]


async def test_budgets_are_told_beside_what_is_held() -> None:
    async with scripted_gateway(
        ScriptedEngine(), memory_bodies=2**20, max_running=7, max_waiting=5
    ) as gateway:
        assert await metric(gateway, "gateway_memory_limit_bytes", kind="bodies") == 2**20
        assert await metric(gateway, "gateway_memory_waiting", kind="bodies") == 0
        assert await metric(gateway, "gateway_in_flight_limit") == 7
        assert await metric(gateway, "gateway_waiting_limit") == 5


async def test_memory_for_log_probabilities_is_held_until_they_are_answered() -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine) as gateway:
        asked = asyncio.create_task(ask(gateway, chat(logprobs=True, top_logprobs=20, max_tokens=512)))
        await until(lambda: engine.running == 1)
        assert await metric(gateway, "gateway_memory_held_bytes", kind="bodies") == 512 * 22 * LOGPROB
        engine.hurried = True
        assert (await asked).status == 200
        assert await metric(gateway, "gateway_memory_held_bytes", kind="bodies") == 0
