"""Where pictures stand, replies that are continued, and conversations without a question."""

from typing import Any

import orjson
import pytest
from PIL import Image

from tests.api.asking import QUESTION, ask, chat, events, image, saying, text
from tests.images.pictures import url_of
from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import Gateway, scripted_gateway

PICTURE = image(url_of(Image.new("RGB", (10, 10), "red")))


def prompt(engine: ScriptedEngine) -> str:
    """Return the newest job's prompt, written out."""
    _, *ids = engine.jobs[-1].token_ids
    written = [b"<image>" if i == MODEL.image_token else b"</s>" if i == 2 else bytes([i - 3]) for i in ids]
    return b"".join(written).decode()


@pytest.mark.parametrize(
    ("fields", "setting", "first"),
    [
        ({}, None, "<image>\nQ"),  # the profile's, which is `auto`
        ({"image_place": "asked"}, None, "Q\n<image>"),
        ({}, "asked", "Q\n<image>"),
        ({"image_place": "auto"}, "asked", "<image>\nQ"),
    ],
)
async def test_image_place_is_the_requests_or_the_settings_or_the_profiles(
    fields: dict[str, Any], setting: Any, first: str
) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine, image_place=setting) as gateway:
        answer = await ask(gateway, chat(messages=saying(text("Q"), PICTURE), **fields))
    assert answer.status == 200, answer.body
    assert prompt(engine) == f"USER: {first}\nASSISTANT:"


def begun(words: str) -> list[dict[str, Any]]:
    return [QUESTION, {"role": "assistant", "content": words}]


@pytest.mark.parametrize(("words", "goes_on"), [("It is", " A red circle."), ("It is ", "A red circle.")])
async def test_a_reply_is_continued_so_that_both_can_be_joined(words: str, goes_on: str) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        fields = {"messages": begun(words), "continue_final_message": True, "add_generation_prompt": False}
        whole = orjson.loads((await ask(gateway, chat(**fields))).body)
        *chunks, _ = await events(gateway, **fields)
    assert whole["choices"][0]["message"]["content"] == goes_on
    deltas = [orjson.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == goes_on
    assert prompt(engine) == "USER: What is it?\nASSISTANT: It is"


async def test_a_last_reply_is_continued_as_open_webui_expects() -> None:
    engine = ScriptedEngine(words=(" circle.",))
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, chat(messages=begun("A red")))
    assert orjson.loads(answer.body)["choices"][0]["message"]["content"] == " circle."
    assert prompt(engine) == "USER: What is it?\nASSISTANT: A red"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": begun("It is"), "continue_final_message": False}, "messages[1]"),
        ({"messages": begun("It is"), "add_generation_prompt": True}, "messages[1]"),
        ({"continue_final_message": True}, "continue_final_message"),
        (
            {"messages": begun("It is"), "continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt",
        ),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
    ],
)
async def test_what_cannot_be_continued_is_refused_by_name(
    served: Gateway, fields: dict[str, Any], param: str
) -> None:
    answer = await ask(served, chat(**fields))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_value", param)


TOOLS = [{"type": "function", "function": {"name": "note"}}]


async def test_a_reply_is_continued_in_words_and_the_tools_are_left_out() -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        answer = await ask(
            gateway,
            chat(messages=begun("It is"), continue_final_message=True, tools=TOOLS, tool_choice="auto"),
        )
    assert answer.status == 200, answer.body
    assert answer.headers["x-gateway-dropped-tools"] == "1"
    assert prompt(engine) == "USER: What is it?\nASSISTANT: It is"
    assert engine.jobs[-1].sampling.constraint is None


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "note"}}])
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"messages": begun("It is"), "continue_final_message": True}, "continues the assistant's message"),
        ({"messages": begun("It is")}, "continues the assistant's message"),
        ({"min_tokens": 5}, "min_tokens"),
        ({"ignore_eos": True}, "ignore_eos"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
async def test_a_call_that_is_required_is_refused_beside_what_asks_for_another_answer(
    served: Gateway, choice: Any, fields: dict[str, Any], told: str
) -> None:
    answer = await ask(served, chat(tools=TOOLS, tool_choice=choice, **fields))
    assert answer.status == 400, answer.body
    assert told in f"{answer.error['param']}: {answer.error['message']}"


@pytest.mark.parametrize(
    ("messages", "written"),
    [
        ([{"role": "system", "content": "Say hello."}], "USER: Say hello.\nASSISTANT:"),
        ([{"role": "system", "content": "S"}, {"role": "user", "content": ""}], "USER: S\nASSISTANT:"),
        (
            [*begun("Red."), {"role": "user", "content": ""}],
            "USER: What is it?\nASSISTANT: Red.</s>USER: \nASSISTANT:",
        ),
        ([{"role": "user", "content": []}], "USER: \nASSISTANT:"),
        (
            [QUESTION, {"role": "assistant", "refusal": "No."}, QUESTION],
            "USER: What is it?\nASSISTANT: No.</s>USER: What is it?\nASSISTANT:",
        ),
        (
            [
                *begun("")[:1],
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                QUESTION,
            ],
            "USER: What is it?\nASSISTANT: No.</s>USER: What is it?\nASSISTANT:",
        ),
    ],
)
async def test_conversations_without_a_question_and_with_refusals_are_answered(
    messages: list[dict[str, Any]], written: str
) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, chat(messages=messages))
    assert answer.status == 200, answer.body
    assert prompt(engine) == written
