"""Every answer can say where its time went, with the same numbers everywhere."""

from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests import openai_types
from tests.api.asking import ask, chat, events, sdk, send
from tests.api.wire import Answer
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

TIMED = {"stream": True, "stream_options": {"include_timing": True}}
ENGINE = {"queue": 1000.0, "prefill": 2000.0, "generate": 3000.0}
PROMPT = {"model": "llava-demo", "prompt": "Hi"}


async def posted(gateway: Gateway, path: str, body: dict[str, Any]) -> Answer:
    return await send(gateway, "POST", path, json=body)


def chunks(answer: Answer) -> list[dict[str, Any]]:
    *told, done, end = answer.body.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    return [orjson.loads(chunk.removeprefix(b"data: ")) for chunk in told]


@pytest.mark.parametrize("include_usage", [None, False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_last_chunk_of_a_stream_tells_usage_and_times(
    served: Gateway, path: str, include_usage: bool | None
) -> None:
    asked = PROMPT if path == "/v1/completions" else chat()
    options = {"include_timing": True, "include_usage": include_usage}
    *others, last = chunks(await posted(served, path, asked | {"stream": True, "stream_options": options}))
    assert {chunk["usage"] for chunk in others} == {None}
    timing = last["usage"].pop("timing")
    assert list(timing) == ["wait", *ENGINE, "total"]
    assert {step: timing[step] for step in ENGINE} == ENGINE
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3


async def test_the_sdk_reads_a_timed_stream(served: Gateway) -> None:
    async with sdk(served) as client:
        stream = await client.chat.completions.create(**chat(**TIMED))
        told = [chunk async for chunk in stream]
    assert told[-1].usage.total_tokens > 0
    assert told[-1].usage.timing["queue"] == 1000.0


async def test_events_of_a_timed_response_are_openais_but_for_the_times(served: Gateway) -> None:
    answer = await posted(served, "/v1/responses", {"model": "llava-demo", "input": "Hi", **TIMED})
    last = openai_types.events(answer.body)[-1]
    assert last.type == "response.completed"
    assert last.response.usage.timing.items() >= ENGINE.items()


async def test_header_and_log_and_stream_tell_the_same() -> None:
    with capture_logs() as lines:
        async with scripted_gateway(ScriptedEngine()) as gateway:
            whole = await ask(gateway, chat())
            streamed = chunks(await ask(gateway, chat(**TIMED)))[-1]["usage"]["timing"]
    header = {
        name: float(spent)
        for name, _, spent in (
            entry.partition(";dur=") for entry in whole.headers["server-timing"].split(", ")
        )
    }
    logged = [line["times"] for line in lines if line["event"] == "request" and "times" in line]
    for told, times in zip((header, streamed), logged, strict=True):
        assert told.pop("total") >= 0
        assert told == {step: pytest.approx(seconds * 1000, abs=0.051) for step, seconds in times.items()}


async def test_timing_is_refused_by_name_outside_of_streams(served: Gateway) -> None:
    answer = await ask(served, chat(stream_options={"include_timing": True}))
    assert (answer.status, answer.error["param"]) == (400, "stream_options")
    assert all(b"timing" not in chunk for chunk in await events(served))
