"""Who may come in, over HTTP: keys, limits and shares, in OpenAI's words."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import orjson
import pytest

from gateway.access.callers import Callers
from gateway.app import create_metrics_app
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from tests.api.asking import ask, chat, image, saying, sdk, send, text
from tests.api.wire import connected, head
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, metric, scripted_gateway, until

KEY = "sk-secret"  # the one that `sdk` sends


@pytest.fixture(scope="module")
async def keyed() -> AsyncIterator[Gateway]:
    async with scripted_gateway(ScriptedEngine(), api_keys=(f"ann:{KEY}", "ben:sk-ben")) as running:
        yield running


async def test_a_wrong_key_is_openais_401(keyed: Gateway) -> None:
    for headers in ({}, {"authorization": "Bearer sk-wrong"}):
        answer = await ask(keyed, **headers)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert b"sk-wrong" not in answer.body
    async with sdk(keyed) as client:
        assert (await client.models.list()).data
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="sk-wrong").models.list()


async def test_files_are_of_the_key_and_not_of_its_name(tmp_path: Path) -> None:
    async def status(headers: dict[str, str], file_id: str, *api_keys: str) -> int:
        async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path, api_keys=api_keys) as gateway:
            return (await send(gateway, "GET", f"/v1/files/{file_id}", headers=headers)).status

    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path, api_keys=("alice:sk-1",)) as gateway:
        sent = {"files": {"file": ("a.txt", b"a")}, "data": {"purpose": "user_data"}}
        made = await send(gateway, "POST", "/v1/files", headers={"authorization": "Bearer sk-1"}, **sent)
    file_id = orjson.loads(made.body)["id"]
    assert await status({"authorization": "Bearer sk-1"}, file_id, "ann:sk-1", "alice:sk-2") == 200
    assert await status({"authorization": "Bearer sk-2"}, file_id, "ann:sk-1", "alice:sk-2") == 404
    assert await status({"authorization": "key alice"}, file_id) == 404


async def test_it_is_known_who_it_is_before_the_body_is_read(keyed: Gateway) -> None:
    async with connected(keyed) as connection:
        await connection.send(head("POST", "/v1/chat/completions", "content-length: 1000"))
        assert (await connection.answer()).status == 401


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
async def test_health_and_metrics_are_open(keyed: Gateway, path: str) -> None:
    assert (await send(keyed, "GET", path)).status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/health/x"])
async def test_everything_else_is_not(keyed: Gateway, path: str) -> None:
    assert (await send(keyed, "GET", path)).status == 401


async def test_metrics_ask_for_a_key_where_set() -> None:
    async with scripted_gateway(ScriptedEngine(), api_keys=(KEY,), metrics_access="key") as gateway:
        assert (await send(gateway, "GET", "/metrics")).status == 401
        answer = await send(gateway, "GET", "/metrics", headers={"authorization": f"Bearer {KEY}"})
        assert answer.status == 200


@pytest.mark.parametrize(("access", "without_key"), [("open", 200), ("key", 401)])
async def test_metrics_on_a_port_of_their_own_ask_for_a_key_where_set(
    access: Literal["open", "key"], without_key: int
) -> None:
    settings = Settings(metrics_access=access, api_keys=(f"ann:{KEY}",))
    metrics = create_metrics_app(Metrics(), Callers(settings), settings)
    transport = httpx2.ASGITransport(metrics)
    async with httpx2.AsyncClient(transport=transport, base_url="http://metrics") as client:
        answer = await client.get("/metrics")
        assert answer.status_code == without_key
        assert access == "open" or answer.json()["error"]["code"] == "invalid_api_key"
        known = await client.get("/metrics", headers={"authorization": f"Bearer {KEY}"})
        assert known.status_code == 200
        assert "gateway_requests_total" in known.text


async def test_the_metrics_port_believes_no_host_header() -> None:
    settings = Settings()
    page = create_metrics_app(Metrics(), Callers(settings), settings)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(page), base_url="http://127.0.0.1:9100"
    ) as client:
        slash = await client.get("/metrics/", headers={"host": "evil.example"})
        assert (slash.status_code, slash.json()["error"]["code"]) == (404, "not_found")  # no redirect
        rebound = await client.get("/metrics", headers={"host": "evil.example"})
        assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "host_not_allowed")
        assert (await client.get("/metrics")).status_code == 200


async def test_a_limit_is_openais_429_and_told_on_every_answer() -> None:
    async with scripted_gateway(ScriptedEngine(), requests_per_minute=2) as gateway:
        for left in ("1", "0"):
            answer = await ask(gateway, chat(stream=True))
            assert answer.status == 200
            assert answer.headers["x-ratelimit-remaining-requests"] == left
        answer = await ask(gateway)
        assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert 0 < int(answer.headers["retry-after-ms"]) <= 60_000
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert await metric(gateway, "gateway_rate_limited_total", limit="requests") == 1
        async with sdk(gateway) as client:
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(model="llava-demo", messages=[])


async def test_an_answers_tokens_count_too() -> None:
    async with scripted_gateway(ScriptedEngine(("a",) * 80), tokens_per_minute=100) as gateway:
        first = await ask(gateway)  # 29 of the prompt and 80 of the answer, 9 more than the limit
        assert (first.status, first.headers["x-ratelimit-remaining-tokens"]) == (200, "0")
        answer = await ask(gateway)
        assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
        assert answer.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_requests_at_once_take_no_more_tokens_than_the_limit() -> None:
    engine = ScriptedEngine(("a",) * 200, pause=60)
    async with scripted_gateway(engine, tokens_per_minute=1000) as gateway:
        asked = chat(n=2, max_tokens=100)
        sent = [asyncio.create_task(ask(gateway, asked)) for _ in range(20)]
        await until(lambda: sum(task.done() for task in sent) == 16)  # 4 × (29 + 2 × 100) are 916
        await until(lambda: engine.running == 4)
        engine.hurried = True
        answers = await asyncio.gather(*sent)
    assert sorted(answer.status for answer in answers) == [200] * 4 + [429] * 16
    for answer in answers:
        if answer.status == 429:
            assert answer.headers["x-ratelimit-remaining-tokens"] == "84"
            assert answer.error["message"].endswith("84 are left and the request needs 229")


async def test_what_is_reserved_for_an_answer_that_never_comes_is_given_back() -> None:
    async with scripted_gateway(ScriptedEngine(), tokens_per_minute=1000) as gateway:
        broken = saying(image("data:image/png;base64,AAAA"))
        failed = await ask(gateway, chat(messages=broken, max_tokens=300))
        assert failed.status == 400
        left = int(failed.headers["x-ratelimit-remaining-tokens"])
        assert 1000 - 300 < left < 1000  # its prompt counts
        rendered = await send(gateway, "POST", "/v1/chat/completions/render", json=chat(max_tokens=300))
        assert (rendered.status, rendered.headers["x-ratelimit-remaining-tokens"]) == (200, str(left - 29))
        streamed = await ask(gateway, chat(stream=True, max_tokens=300))
        assert streamed.headers["x-ratelimit-remaining-tokens"] == str(left - 29 - 29 - 300)


async def test_a_prompt_of_more_tokens_than_are_left_is_told_how_many_are() -> None:
    async with scripted_gateway(ScriptedEngine(), tokens_per_minute=100) as gateway:
        answer = await ask(gateway, chat(messages=saying(text("a" * 200))))
        assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
        assert answer.headers["x-ratelimit-remaining-tokens"] == "100"


async def test_so_many_at_once() -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine, requests_at_once=1) as gateway:
        first = asyncio.create_task(ask(gateway))
        await until(lambda: engine.running == 1)
        assert (await ask(gateway)).status == 429
        engine.hurried = True
        assert (await first).status == 200
        assert (await ask(gateway)).status == 200


async def test_a_flood_of_many_choices_leaves_seats_for_others() -> None:
    engine = ScriptedEngine(pause=30)
    async with scripted_gateway(engine, api_keys=("eve:sk-eve", "ann:sk-ann")) as gateway:
        eve = {"authorization": "Bearer sk-eve"}
        floods = [asyncio.create_task(ask(gateway, chat(n=8), **eve)) for _ in range(8)]
        await until(lambda: engine.running >= 1)
        await asyncio.sleep(0.2)
        before = engine.running
        engine.pause = 0
        answer = await ask(gateway, authorization="Bearer sk-ann")
        assert answer.status == 200
        assert engine.running == before < 8
        # The engine hears who has taken least.
        assert engine.jobs[-1].priority == 0
        assert max(job.priority for job in engine.jobs) > 0
        for flood in floods:
            flood.cancel()
        await asyncio.gather(*floods, return_exceptions=True)


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"n": 1, "max_tokens": 8}, 1),
        ({"n": 3, "max_tokens": 500}, 6),  # 1,500 tokens and the prompt's 30, by 256
        ({"n": 3, "max_tokens": 2000}, 13),  # each answer counts 1,024 tokens at most
        ({"messages": saying(text("a" * 600)), "max_tokens": 8}, 3),
    ],
)
async def test_the_next_job_of_a_caller_comes_after_the_tokens_that_it_has_under_way(
    asked: dict[str, Any], steps: int
) -> None:
    engine = ScriptedEngine(pause=30)
    async with scripted_gateway(engine) as gateway:
        first = asyncio.create_task(ask(gateway, chat(**asked)))
        await until(lambda: engine.running == 1)
        second = asyncio.create_task(ask(gateway))
        await until(lambda: engine.running == 2)
        assert [job.priority for job in engine.jobs] == [0, steps]
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)


async def test_what_is_known_of_a_schema_is_known_to_its_caller_alone() -> None:
    """Else how long the first request with a schema takes would tell whether others use it."""
    engine = ScriptedEngine()
    async with scripted_gateway(engine, api_keys=("ann:sk-ann", "ben:sk-ben")) as gateway:
        for key in ("sk-ann", "sk-ann", "sk-ben"):
            answer = await ask(
                gateway, chat(response_format={"type": "json_object"}), authorization=f"Bearer {key}"
            )
            assert answer.status == 200
    first, again, others = engine.checked
    assert first == again != others
    assert first.grammar == others.grammar
