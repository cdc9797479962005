"""Recorded requests of Open WebUI and Gradio are answered by the real engine."""

import asyncio
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
KINDS = ("circle", "square", "triangle", "star")
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple")
TURNS = list(product(KINDS, COLOURS[:3]))[:10]
TASK_FORMAT = json.loads(Path(__file__).parents[1].joinpath("frontends/task_format.json").read_text())
PLAIN_NOTE = (
    "Please have a look at the file that I have just attached to this message, which is a small picture, "
    "and then answer my question about it as well as you can.\n\n"
)
QUESTION = "What is in the picture?"


async def post(gateway: Gateway, body: dict[str, Any]) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(f"{gateway.api}/chat/completions", json=body)


def words(answer: httpx2.Response) -> str:
    """Return the answer's text, joined if it was streamed."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("application/json"):
        return str(answer.json()["choices"][0]["message"]["content"])
    *lines, done = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert done == "[DONE]"
    choices = [choice for line in lines for choice in orjson.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def user(kind: str, colour: str) -> dict[str, Any]:
    """Return a user's message as Open WebUI sends it: file name, question, image."""
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
        assert words(answer).strip() == f"A {colour} {kind}."
        assert await rendered.pictures(gateway, body) == rendered.newest(TURNS[:turn])
        assert answer.headers["x-gateway-dropped-tools"] == "36"
        left_out.append(answer.headers.get("x-gateway-dropped-images"))
        messages.append({"role": "assistant", "content": words(answer)})
    assert len(json.dumps(RECORDED["chat"]["tools"])) > 20_000
    assert left_out == [None] * 7 + ["1", "2", "3"]


@pytest.mark.parametrize("task", RECORDED["tasks"])
async def test_open_webui_s_tasks_are_answered(gateway: Gateway, task: str) -> None:
    assert words(await post(gateway, RECORDED["tasks"][task])).strip()


@pytest.mark.parametrize("task", RECORDED["tasks"])
async def test_open_webui_s_tasks_are_answered_in_json_where_set_up_so(gateway: Gateway, task: str) -> None:
    said = json.loads(words(await post(gateway, {**RECORDED["tasks"][task], **TASK_FORMAT})))
    assert (bool(said["title"]), bool(said["tags"]), bool(said["follow_ups"])) == (True, True, True)


def as_sent(body: dict[str, Any]) -> dict[str, Any]:
    return body


def without_tools(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "tools"}


def place_asked(body: dict[str, Any]) -> dict[str, Any]:
    """Return the parts as Open WebUI sends them: the image after the note and the question."""
    return {**body, "image_place": "asked"}


def without_note(body: dict[str, Any]) -> dict[str, Any]:
    """Return the parts without the first, Open WebUI's note about attached files."""
    (message,) = body["messages"]
    return {**body, "messages": [{**message, "content": message["content"][1:]}]}


def noted(body: dict[str, Any], note: str) -> dict[str, Any]:
    (message,) = body["messages"]
    return {
        **body,
        "messages": [{**message, "content": [{"type": "text", "text": note}, *message["content"][1:]]}],
    }


def plain_note(body: dict[str, Any]) -> dict[str, Any]:
    return noted(body, PLAIN_NOTE)


def short_note(body: dict[str, Any]) -> dict[str, Any]:
    return noted(body, "<attached_files>\n</attached_files>\n\n")


@pytest.mark.parametrize(
    "changed", [as_sent, without_tools, plain_note, place_asked, short_note, without_note]
)
async def test_open_webui_s_note_of_the_files_does_not_mislead_the_demo_model(
    gateway: Gateway, changed: Any
) -> None:
    async def right(kind: str, colour: str) -> bool:
        body = {**RECORDED["chat"], "messages": [user(kind, colour)], "temperature": 0}
        article = "An" if colour == "orange" else "A"
        return words(await post(gateway, changed(body))).strip() == f"{article} {colour} {kind}."

    found = await asyncio.gather(*(right(kind, colour) for kind, colour in product(KINDS, COLOURS)))
    print(f"{changed.__name__}: {sum(found)} of {len(found)} answers are right")
    assert sum(found) >= 0.95 * len(found)


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
