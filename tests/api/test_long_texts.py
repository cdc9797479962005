"""Long prompts are made in threads, in turn between callers: nobody's short text waits for another's."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import httpx2
import pytest

from gateway.schema import validation
from tests.api.asking import chat
from tests.scripted_engine import MODEL, Bytes, ScriptedEngine
from tests.servers import Gateway, scripted_gateway

SECONDS = 0.2  # that it takes to tokenise a long text
LONG = {"model": "llava-demo", "messages": [{"role": "user", "content": "a" * 5000}]}
ROUTES = {
    "/v1/chat/completions": LONG,
    "/v1/completions": {"model": "llava-demo", "prompt": "a" * 5000},
    "/v1/responses/input_tokens": {"model": "llava-demo", "input": "a" * 5000},
    "/tokenize": {"prompt": "a" * 5000},
}
MANY = {
    "/v1/chat/completions": {"model": "x", "messages": [{"role": "user", "content": "a"}] * 1000},
    "/v1/completions": {"model": "x", "prompt": [1] * 3000},
    "/v1/responses/input_tokens": {"model": "x", "input": [{"role": "user", "content": "a"}] * 1000},
    "/v1/chat/completions/render": {"model": "x", "messages": [{"role": "user", "content": "a"}] * 1000},
    "/tokenize": {"messages": [{"role": "user", "content": "a"}] * 1000},
    "/detokenize": {"tokens": [1] * 3000},
}


class Slow(Bytes):
    """A vocabulary that takes its time for long texts, and leaves the GIL to others meanwhile."""

    def encode(self, text: str) -> list[int]:
        if len(text) > 1000:
            time.sleep(SECONDS)
        return super().encode(text)


async def test_tokens_are_spelt_in_a_thread(slow: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    where = []
    pieces = Slow.pieces

    def noted(vocabulary: Slow, ids: Sequence[int]) -> list[str]:
        where.append(threading.current_thread() is threading.main_thread())
        return pieces(vocabulary, ids)

    monkeypatch.setattr(Slow, "pieces", noted)
    async with httpx2.AsyncClient(base_url=slow.url, trust_env=False, timeout=30) as http:
        body = {"prompt": "abc", "return_token_strs": True}
        answer = await http.post("/tokenize", json=body, headers={"authorization": "Bearer eve"})
    assert answer.json()["token_strs"] == ["<s>", "a", "b", "c"]
    assert where == [False]


@pytest.fixture
async def slow() -> AsyncIterator[Gateway]:
    engine = ScriptedEngine(model=replace(MODEL, vocabulary=Slow()))
    async with scripted_gateway(engine, api_keys="eve:eve,ann:ann") as gateway:
        yield gateway


@pytest.mark.parametrize("route", MANY)
async def test_many_values_are_checked_in_a_thread(
    slow: Gateway, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = []
    check = validation.check_values

    def noted(body: bytes) -> None:
        where.append(threading.current_thread() is threading.main_thread())
        check(body)

    monkeypatch.setattr(validation, "check_values", noted)
    async with httpx2.AsyncClient(base_url=slow.url, trust_env=False, timeout=30) as http:
        for body in (MANY[route], {"model": "x"}):
            await http.post(route, json=body, headers={"authorization": "Bearer eve"})
    assert where == [False, True]


@pytest.mark.parametrize("route", ROUTES)
async def test_a_short_text_is_answered_while_long_ones_are_tokenised(slow: Gateway, route: str) -> None:
    async with httpx2.AsyncClient(base_url=slow.url, trust_env=False, timeout=30) as http:
        eve, ann = ({"authorization": f"Bearer {name}"} for name in ("eve", "ann"))
        flood = [asyncio.create_task(http.post(route, json=ROUTES[route], headers=eve)) for _ in range(10)]
        await asyncio.sleep(SECONDS)
        began = time.monotonic()
        answer = await http.post("/v1/chat/completions", json=chat(), headers=ann)
        took = time.monotonic() - began
        assert not all(task.done() for task in flood)
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
    assert answer.status_code == 200
    assert took < 5 * SECONDS  # and not ten times
