"""What Open WebUI and Gradio send, as recorded, on the real engine."""

import copy
import json
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests import rendered
from tests.servers import Gateway
from tests.shapes import data_url

pytestmark = pytest.mark.engine

RECORDED = json.loads(Path(__file__).with_name("recorded").joinpath("open_webui.json").read_text())
TURNS = list(product(("circle", "square", "triangle", "star"), ("red", "blue", "green")))[:10]
QUESTION = "What is in the picture?"


async def post(gateway: Gateway, body: dict[str, Any]) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(f"{gateway.api}/chat/completions", json=body)


def words(answer: httpx2.Response) -> str:
    """Return the answer's text, put together if it was streamed."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("application/json"):
        return str(answer.json()["choices"][0]["message"]["content"])
    *lines, done = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert done == "[DONE]"
    choices = [choice for line in lines for choice in orjson.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def user(kind: str, colour: str) -> dict[str, Any]:
    """Return a user's message as Open WebUI sends it: the file's name, the question, then the picture."""
    message: dict[str, Any] = copy.deepcopy(RECORDED["chat"]["messages"][0])
    message["content"][-1]["image_url"]["url"] = data_url(kind, colour)
    return message


async def test_open_webui_s_ten_turns_with_its_36_tools(gateway: Gateway) -> None:
    messages: list[dict[str, Any]] = []
    left_out = []
    for turn, (kind, colour) in enumerate(TURNS, 1):
        messages.append(user(kind, colour))
        body = {**RECORDED["chat"], "messages": messages}
        answer = await post(gateway, body)
        # Its text about attached files is new to the demo model, whose answers are often wrong.
        assert words(answer).strip()
        assert await rendered.pictures(gateway, body) == rendered.newest(TURNS[:turn])
        assert answer.headers["x-gateway-dropped-tools"] == "36"
        left_out.append(answer.headers.get("x-gateway-dropped-images"))
        messages.append({"role": "assistant", "content": words(answer)})
    assert len(json.dumps(RECORDED["chat"]["tools"])) > 20_000
    assert left_out == [None] * 7 + ["1", "2", "3"]


@pytest.mark.parametrize("task", RECORDED["tasks"])
async def test_open_webui_s_tasks_are_answered(gateway: Gateway, task: str) -> None:
    assert words(await post(gateway, RECORDED["tasks"][task])).strip()


async def test_open_webui_s_continue_goes_on_where_the_reply_was_stopped(gateway: Gateway) -> None:
    messages = [user("star", "red"), {"role": "assistant", "content": "A red"}]
    assert words(await post(gateway, {**RECORDED["chat"], "messages": messages})) == " star."


async def test_gradio_s_second_turn(gateway: Gateway) -> None:
    def said(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
        return {"role": role, "metadata": None, "content": list(parts), "options": None}

    def picture(kind: str, colour: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": data_url(kind, colour)}}

    question = {"type": "text", "text": QUESTION}
    messages = [
        said("user", picture("star", "red")),
        said("user", question),
        said("assistant", {"type": "text", "text": "A red star."}),
        {"role": "user", "content": [picture("circle", "blue")]},
        {"role": "user", "content": [question]},
    ]
    answer = await post(gateway, {"model": "llava-demo", "messages": messages, "stream": True})
    assert words(answer).strip() == "A blue circle."
