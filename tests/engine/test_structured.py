"""Structured answers, on the real engine and through OpenAI's client."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from openai import APIError, AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import BaseModel, Field

from tests.shapes import data_url

pytestmark = pytest.mark.engine

MODEL = "llava-demo"
COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "white", "grey"]


def asking(question: str, url: str) -> ChatCompletionUserMessageParam:
    return {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}],
    }


async def constrained(client: AsyncOpenAI, message: ChatCompletionUserMessageParam, **form: Any) -> str:
    reply = await client.chat.completions.create(
        model=MODEL,
        messages=[message],
        temperature=0,
        max_tokens=200,
        extra_body={"structured_outputs": form},
    )
    assert reply.choices[0].finish_reason == "stop"
    return reply.choices[0].message.content or ""


class Shape(BaseModel):
    colour: Literal["red", "green", "blue"]
    sides: int = Field(ge=0, le=9)
    tags: list[Literal["small", "large"]] = Field(max_length=2)


STAR = asking("What colour is the star?", data_url("star", "blue"))


async def test_a_pydantic_model_comes_back(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.parse(
        model=MODEL, messages=[STAR], response_format=Shape, temperature=0, max_tokens=200
    )
    assert reply.choices[0].finish_reason == "stop"
    assert isinstance(reply.choices[0].message.parsed, Shape)


async def test_a_streamed_answer_has_the_form_too(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model=MODEL, messages=[STAR], response_format=Shape, temperature=0, max_tokens=200
    ) as stream:
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Shape)


async def test_an_answer_cut_by_max_tokens_says_so(client: AsyncOpenAI) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"text": {"type": "string", "minLength": 500}},
        "required": ["text"],
    }
    reply = await client.chat.completions.create(
        model=MODEL,
        messages=[STAR],
        response_format={"type": "json_schema", "json_schema": {"name": "long", "schema": schema}},
        max_tokens=20,
    )
    assert reply.choices[0].finish_reason == "length"
    assert (reply.choices[0].message.content or "").startswith('{"text": "')


async def test_json_object_is_an_object(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(
        model=MODEL, messages=[STAR], response_format={"type": "json_object"}, max_tokens=10, temperature=0
    )
    assert (reply.choices[0].message.content or "").startswith("{")


async def test_a_choice_is_what_the_model_sees(client: AsyncOpenAI) -> None:
    for colour in COLOURS[:4]:
        message = asking("What colour is the star?", data_url("star", colour))
        assert (
            await constrained(client, message, choice=["Red.", "Green.", "Blue.", "Yellow."])
            == f"{colour.title()}."
        )


async def test_a_pattern_matches_the_whole_answer(client: AsyncOpenAI) -> None:
    answer = await constrained(client, STAR, regex=r"[0-9]{3}/[a-c]{2}|\d{4}")
    assert re.fullmatch(r"[0-9]{3}/[a-c]{2}|\d{4}", answer)


async def test_a_grammar_is_kept_in_ebnf_and_in_lark(client: AsyncOpenAI) -> None:
    assert re.fullmatch(
        r"x[0-9]y", await constrained(client, STAR, grammar='root ::= "x" digit "y"\ndigit ::= [0-9]')
    )
    assert re.fullmatch(r"x[0-9]y", await constrained(client, STAR, grammar='start: "x" /[0-9]/ "y"'))


async def test_n_answers_have_the_form_each(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(
        model=MODEL,
        messages=[STAR],
        n=4,
        max_tokens=200,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "shape", "strict": True, "schema": Shape.model_json_schema()},
        },
        seed=1,
    )
    assert len([Shape.model_validate_json(choice.message.content or "") for choice in reply.choices]) == 4


async def test_eight_forms_at_once_stay_apart(client: AsyncOpenAI) -> None:
    async def one(number: int) -> None:
        schema = {
            "type": "object",
            "properties": {f"key{number}": {"enum": [f"value{number}{letter}" for letter in "abc"]}},
            "required": [f"key{number}"],
        }
        answer = json.loads(await constrained(client, STAR, json=schema))
        assert list(answer) == [f"key{number}"]
        assert answer[f"key{number}"].startswith(f"value{number}")

    forms = asyncio.gather(*(one(number) for number in range(8)))
    reply = await client.chat.completions.create(model=MODEL, messages=[STAR], temperature=0)
    await forms
    assert reply.choices[0].message.content == "Blue."


@pytest.mark.parametrize(
    ("form", "param", "said"),
    [
        ({"json": {"type": "foo"}}, "structured_outputs.json", "foo"),
        (
            {"json": {"type": "string", "pattern": "x(?=a)b"}},
            "structured_outputs.json",
            "at '(?=': look-around",
        ),
        ({"regex": "b(a"}, "structured_outputs.regex", "the pattern 'b(a' is wrong at '(': unclosed group"),
        (
            {"regex": r"\d/("},
            "structured_outputs.regex",
            r"the pattern '\d/(' is wrong at '(': unclosed group",
        ),
        ({"regex": r"(a)\1"}, "structured_outputs.regex", "backreferences are not supported"),
        ({"grammar": "root ::= missing"}, "structured_outputs.grammar", "'missing'"),
        ({"grammar": "start: missing"}, "structured_outputs.grammar", 'at 1(8): unknown name: "missing"'),
        ({"grammar": "start: /(b/"}, "structured_outputs.grammar", "at '(': unclosed group"),
        # These are expensive, and refused before they reach the engine.
        (
            {"json": {"allOf": [{"multipleOf": prime} for prime in (9973, 9967, 9949, 9941)]}},
            "structured_outputs.json",
            "beside `allOf`",
        ),
        (
            {"json": {"properties": {f"k{n}": {"type": "string"} for n in range(3000)}}},
            "structured_outputs.json",
            "65536",
        ),
        (
            {"grammar": "start: T\nT: /(.*a.{20})/ & /(.*b.{21})/ & ~/(.*c.{22})/"},
            "structured_outputs.grammar",
            "too complex",
        ),
    ],
)
async def test_a_form_that_the_engine_cannot_keep_is_refused_by_name(
    client: AsyncOpenAI, form: dict[str, Any], param: str, said: str
) -> None:
    for stream in (False, True):
        with pytest.raises(BadRequestError) as refused:
            await client.chat.completions.create(
                model=MODEL, messages=[STAR], stream=stream, extra_body={"structured_outputs": form}
            )
        assert refused.value.param == param
        assert said in refused.value.message


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "name": "form", "schema": schema}


# What a schema has that cannot be enforced, the path in the error, and a word of its text.
UNFIT: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "array", "uniqueItems": True}, "uniqueItems", "not supported"),
    ({"properties": {"a": {"not": {"type": "null"}}}}, "properties.a.not", "not supported"),
    ({"properties": {"a": {"$ref": "http://x/y"}}}, "properties.a.$ref", "'http://x/y'"),
    ({"type": "array", "minItems": 20_000}, "minItems", "got 20000"),
    ({"properties": {"a": {"type": "string", "pattern": "(?=a)b"}}}, "", "wrong at '(?=': look-around"),
    ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "", "/$defs/none"),
    ({"type": "foo"}, "", "foo"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("schema", "place", "said"), UNFIT)
async def test_a_schema_that_cannot_be_kept_is_refused_at_its_place_through_both_doors(
    client: AsyncOpenAI, schema: dict[str, Any], place: str, said: str, stream: bool
) -> None:
    form = schema_format(schema)
    chat_form = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
    asks: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        (
            "response_format.json_schema.schema",
            lambda: client.chat.completions.create(
                model=MODEL,
                messages=[STAR],
                stream=stream,
                extra_body={"response_format": chat_form},
            ),
        ),
        (
            "text.format.schema",
            lambda: client.responses.create(
                model=MODEL, input="x", stream=stream, extra_body={"text": {"format": form}}
            ),
        ),
    ]
    for field, ask in asks:
        with pytest.raises(BadRequestError) as refused:  # the status is 400, so no stream began
            await ask()
        assert refused.value.param == ".".join(filter(None, (field, place)))
        assert said in refused.value.message


HOSTILE: list[dict[str, Any]] = [
    {"regex": "(?:(?:(?:(?:a{1,99}){1,99}){1,99}){1,99}){1,99}"},
    {"regex": "(.*a.{30}|.*b.{30}|.*c.{30}){30}"},
    {"regex": "(a+)+b"},
    {"grammar": 'root ::= root root root | [a-z ] | ""'},
    {"grammar": "start: a0\n" + "".join(f"a{i}: a{i + 1} a{i + 1}\n" for i in range(30)) + 'a30: "x" | ""'},
    {"json": {"type": "string", "pattern": "^" + "(a|aa)" * 400 + "$"}},
    {"json": {"type": "integer", "multipleOf": 9973}},
]


async def test_hostile_forms_do_not_stall_the_engine(client: AsyncOpenAI) -> None:
    async def attack(form: dict[str, Any]) -> None:
        with contextlib.suppress(APIError):
            await client.chat.completions.create(
                model=MODEL,
                messages=[STAR],
                max_tokens=300,
                extra_body={"structured_outputs": form},
                timeout=60,
            )

    attacks = [asyncio.create_task(attack(form)) for form in HOSTILE * 2]
    slowest = 0.0
    while not all(task.done() for task in attacks):
        began = time.monotonic()
        reply = await client.chat.completions.create(model=MODEL, messages=[STAR], temperature=0)
        slowest = max(slowest, time.monotonic() - began)
        assert reply.choices[0].message.content == "Blue."
    # Without limits one of these delayed others by 13 s.
    assert slowest < 8


async def test_what_goes_on_with_the_assistants_message_is_valid_by_itself(client: AsyncOpenAI) -> None:
    class Shape(BaseModel):
        colour: Literal["red", "green", "blue"]

    reply = await client.chat.completions.parse(
        model=MODEL,
        messages=[
            {"role": "user", "content": "What colour is it?"},
            {"role": "assistant", "content": "It is"},
        ],
        temperature=0,
        response_format=Shape,
    )
    assert reply.choices[0].message.parsed is not None
