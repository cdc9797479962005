"""Tool calls on the real engine, through OpenAI's client."""

import json
from typing import Any

import llguidance
import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from gateway.generation.request import GenerationRequest, Tool
from gateway.generation.tools import offer as offer_tools
from tests.shapes import data_url

pytestmark = pytest.mark.engine

MODEL = "llava-demo"
COLOURS = ["red", "green", "blue", "yellow"]


def tool(name: str, **properties: Any) -> Any:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": f"To {name}.", "parameters": parameters},
    }


PAINT = tool("paint", colour={"enum": COLOURS}, layers={"type": "integer", "minimum": 1, "maximum": 9})
COUNT = tool("count", kind={"enum": ["star", "circle"]})
HELLO: ChatCompletionMessageParam = {"role": "user", "content": "Hello"}
STAR: ChatCompletionMessageParam = {
    "role": "user",
    "content": [
        {"type": "image_url", "image_url": {"url": data_url("star", "blue")}},
        {"type": "text", "text": "What colour is the star?"},
    ],
}


async def asked(client: AsyncOpenAI, *messages: ChatCompletionMessageParam, **fields: Any) -> ChatCompletion:
    reply: ChatCompletion = await client.chat.completions.create(
        model=MODEL, messages=list(messages), **{"temperature": 0, "max_tokens": 120, **fields}
    )
    return reply


def calls(reply: ChatCompletion) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of the first choice, which has no other content."""
    choice = reply.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    return [
        (call.function.name, json.loads(call.function.arguments))
        for call in choice.message.tool_calls or ()
        if call.type == "function"
    ]


def valid(name: str, arguments: dict[str, Any]) -> bool:
    if name == "count":
        return arguments.keys() == {"kind"} and arguments["kind"] in ("star", "circle")
    return arguments["colour"] in COLOURS and 1 <= arguments["layers"] <= 9 and len(arguments) == 2


@pytest.mark.parametrize("message", [HELLO, STAR], ids=["text", "picture"])
async def test_a_required_call_is_valid(client: AsyncOpenAI, message: ChatCompletionMessageParam) -> None:
    for seed in range(4):
        reply = await asked(
            client, message, tools=[PAINT, COUNT], tool_choice="required", temperature=1.5, seed=seed
        )
        (call,) = calls(reply)
        assert valid(*call)


async def test_a_named_function_is_called(client: AsyncOpenAI) -> None:
    for chosen in ("paint", "count"):
        named = {"type": "function", "function": {"name": chosen}}
        ((name, arguments),) = calls(await asked(client, STAR, tools=[PAINT, COUNT], tool_choice=named))
        assert name == chosen
        assert valid(name, arguments)


async def test_allowed_tools_are_the_only_ones(client: AsyncOpenAI) -> None:
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "count"}}]},
    }
    ((name, _),) = calls(await asked(client, HELLO, tools=[PAINT, COUNT], tool_choice=allowed))
    assert name == "count"


@pytest.mark.parametrize(("parallel", "count"), [(True, 4), (False, 1)])
async def test_several_calls_come_only_where_they_are_asked_for(
    client: AsyncOpenAI, parallel: bool, count: int
) -> None:
    reply = await asked(
        client,
        HELLO,
        tools=[PAINT, COUNT],
        tool_choice="required",
        parallel_tool_calls=parallel,
        logit_bias={"13": 100},  # the newline, which only stands between calls
        max_tokens=300,
    )
    found = calls(reply)
    assert all(valid(*call) for call in found)
    assert len(found) == count


async def test_a_streamed_call_is_put_together_by_the_sdk(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model=MODEL, messages=[STAR], tools=[PAINT], tool_choice="required", temperature=0, max_tokens=120
    ) as stream:
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert final.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "paint"
    assert valid("paint", json.loads(call.function.arguments))


async def test_a_call_that_max_tokens_cuts_ends_with_length(client: AsyncOpenAI) -> None:
    reply = await asked(client, HELLO, tools=[PAINT], tool_choice="required", max_tokens=12)
    assert reply.choices[0].finish_reason == "length"


async def test_auto_answers_about_a_picture_in_words(client: AsyncOpenAI) -> None:
    many = [PAINT, COUNT, *(tool(f"tool_{number}", text={"type": "string"}) for number in range(34))]
    answer = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[STAR], tools=many, temperature=0
    )
    assert answer.headers["x-gateway-dropped-tools"] == "36"
    assert answer.parse().choices[0].message.content == "Blue."


async def test_auto_answers_in_words_where_the_model_begins_no_call(client: AsyncOpenAI) -> None:
    reply = await asked(client, HELLO, tools=[COUNT])
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.choices[0].message.tool_calls is None


def test_the_form_of_auto_is_words_or_a_valid_call() -> None:
    schema = COUNT["function"]["parameters"]
    offer = offer_tools((Tool("count", "", schema, "p"),), GenerationRequest("i", "m", (), "c"), len, 1000)
    assert offer is not None
    for text, taken in (
        (" A star.", True),
        ("A star.", True),
        (" @home {}", True),
        (" See @count {}", True),
        (' @count {"kind": "star"}', True),
        (' @count {"kind": "moon"}', False),
        (' @count {"kind": "star"}\n@count {"kind": "star"}', False),
        ('@count {"kind": "star"}', False),
        (" @count {}", False),
        (" @count me in", False),
    ):
        tokenizer = llguidance.LLTokenizer("byte")
        matcher = llguidance.LLMatcher(
            tokenizer, llguidance.grammar_from("grammar", offer.constraint.grammar), log_level=0
        )
        ids = tokenizer.tokenize_str(text)
        whole = matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
        assert (text, whole) == (text, taken)


async def test_a_turn_with_a_tool_goes_back_as_the_sdk_has_it(client: AsyncOpenAI) -> None:
    first = await asked(client, STAR, tools=[PAINT], tool_choice="required")
    message = first.choices[0].message
    (call,) = message.tool_calls or []
    second = await asked(
        client,
        STAR,
        message.model_dump(),  # type: ignore[arg-type]  # as SDKs echo it
        {"role": "tool", "tool_call_id": call.id, "content": "painted"},
        {"role": "user", "content": "What colour is the star?"},
        tools=[PAINT],
    )
    assert second.choices[0].finish_reason in ("stop", "length")
    assert second.choices[0].message.content


async def test_a_schema_that_cannot_be_kept_is_refused_or_left_out(client: AsyncOpenAI) -> None:
    bad = tool("bad", items={"type": "array", "uniqueItems": True})
    with pytest.raises(BadRequestError) as refused:
        await asked(client, HELLO, tools=[PAINT, bad], tool_choice="required")
    assert refused.value.param == "tools[1].function.parameters.properties.items.uniqueItems"
    assert (await asked(client, HELLO, tools=[PAINT, bad])).choices[0].finish_reason in ("stop", "length")


async def test_the_fingerprint_is_the_same_in_every_answer(client: AsyncOpenAI) -> None:
    whole = await asked(client, STAR)
    stream = await client.chat.completions.create(model=MODEL, messages=[STAR], stream=True)
    told = {chunk.system_fingerprint async for chunk in stream}
    assert told == {whole.system_fingerprint}
    assert (whole.system_fingerprint or "").startswith("fp_")
