"""Four times as much in a field takes about four times the work: no list of a request costs its square."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from engine_config.profile import load
from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.api.operations import OPERATIONS
from gateway.errors import RequestError
from gateway.generation import chat as chats
from gateway.generation import completions, responses
from gateway.generation.prompt_builder import PromptBuilder
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.completions import CompletionRequest
from gateway.schema.responses_request import ResponseRequest
from gateway.schema.validation import MOST_VALUES, parse
from gateway.settings import Settings
from tests.growth import assert_linear
from tests.scripted_engine import ScriptedEngine

FEW, TIMES = 1_500, 4
# Four times as much takes four times the memory if it is linear, 16 if quadratic.
MOST_BYTES = 6.5
SLACK_BYTES = 2**18

Make = Callable[[int], dict[str, Any]]
USER = {"role": "user", "content": "a"}
PICTURE = {"type": "image_url", "image_url": "data:,"}
TEXT = {"type": "text", "text": "a"}
SAID = {"type": "input_text", "text": "a"}


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": [USER], **fields}


def content(part: Any, size: int) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": [part] * size}])


def call(number: int) -> dict[str, Any]:
    return {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def function(number: int, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": f"f{number}", "parameters": parameters}}


def talk(size: int) -> list[dict[str, Any]]:
    return [{"role": role, "content": "a"} for _ in range(size // 2) for role in ("user", "assistant")] + [
        USER
    ]


def item(number: int) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": "{}"}


def outcome(number: int, output: Any = "a") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": output}


def bias(size: int) -> dict[str, Any]:
    return {"logit_bias": {str(token): 1 for token in range(size)}}


def drawing(around: dict[str, Any]) -> dict[str, list[Make]]:
    """Return the fields of all generating routes."""
    return {
        "stop": [lambda size: {**around, "stop": [f"s{place}" for place in range(size)]}],
        "stop_token_ids": [lambda size: {**around, "stop_token_ids": list(range(size))}],
        "logit_bias": [lambda size: {**around, **bias(size)}],
    }


# Schemas that are too large are refused; those that are just small enough are of the last kind.
SCHEMAS: list[Callable[[int], dict[str, Any]]] = [
    lambda size: {"properties": {f"p{place}": {"multipleOf": 7} for place in range(size)}},
    lambda size: {"allOf": [{"multipleOf": 9973}] * size},
    lambda size: {"anyOf": [{"const": place} for place in range(size)]},
    lambda size: {"enum": list(range(size))},
    lambda size: {"$defs": {f"d{place}": {} for place in range(size // 8)}, "$ref": "#/$defs/d0"},
    lambda size: {
        "type": "object",
        "properties": {f"p{place}": {} for place in range(size // 8)},
        "required": [f"p{place}" for place in range(size // 8)],
    },
]
CHAT_FIELDS: dict[str, list[Make]] = {
    **drawing(chat()),
    "messages": [
        lambda size: chat(messages=talk(size)),
        lambda size: chat(messages=[*({"role": "system", "content": "a"} for _ in range(size)), USER]),
        lambda size: chat(messages=[USER] * size),
        lambda size: chat(messages=[{"role": "user", "content": [PICTURE]}] * (size // 2)),
        lambda size: chat(messages=[{"role": "user", "content": ""}] * size),
        lambda size: chat(
            messages=[
                *(
                    message
                    for place in range(size // 3)
                    for message in (
                        {"role": "assistant", "tool_calls": [call(place)]},
                        {"role": "tool", "tool_call_id": f"c{place}", "content": "a"},
                    )
                ),
                USER,
            ]
        ),
    ],
    "messages[].content": [
        lambda size: content(TEXT, size),
        lambda size: content(PICTURE, size),
        lambda size: chat(messages=[{"role": "user", "content": [TEXT, PICTURE] * (size // 2)}]),
    ],
    "messages[].tool_calls": [
        lambda size: chat(messages=[{"role": "assistant", "tool_calls": list(map(call, range(size)))}, USER])
    ],
    "response_format.json_schema.schema": [
        lambda size, make=make: chat(  # type: ignore[misc]  # mypy knows no lambda with a default
            response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": make(size)}}
        )
        for make in SCHEMAS
    ],
    "structured_outputs.json": [lambda size: chat(structured_outputs={"json": {"enum": list(range(size))}})],
    "structured_outputs.choice": [
        lambda size: chat(structured_outputs={"choice": [str(place) for place in range(size)]}),
        lambda size: chat(structured_outputs={"choice": [str(place) for place in range(size // 24)]}),
    ],
    "tools": [
        lambda size: chat(tools=list(map(function, range(size // 3)))),
        lambda size: chat(tools=list(map(function, range(size // 188))), tool_choice="required"),
    ],
    "tools[].function.parameters": [
        lambda size, make=make: chat(tools=[function(0, make(size))], tool_choice="required")  # type: ignore[misc]
        for make in SCHEMAS
    ],
    "tool_choice.allowed_tools.tools": [
        lambda size: chat(
            tools=[function(0)],
            tool_choice={
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "f0"}}] * (size // 3),
                },
            },
        )
    ],
}
RESPONSE: dict[str, Any] = {"input": "a", "store": False}
RESPONSE_FIELDS: dict[str, list[Make]] = {
    **drawing(RESPONSE),
    "input": [
        lambda size: {"input": talk(size), "truncation": "auto", "store": False},
        lambda size: {"input": [USER] * size, "truncation": "auto", "store": False},
        lambda size: {"input": talk(size)},
        lambda size: {"input": [*map(item, range(size)), USER], "store": False},
        lambda size: {
            "input": [*chain(*((item(place), outcome(place)) for place in range(size // 2))), USER],
            "truncation": "auto",
            "store": False,
        },
        lambda size: {"input": [{"type": "item_reference", "id": f"i{place}"} for place in range(size)]},
        lambda size: {"input": [{"type": "reasoning", "id": "r"}] * size + [USER]},
    ],
    "input[].content": [
        lambda size: {"input": [{"role": "user", "content": [SAID] * size}], "store": False},
        lambda size: {"input": [{"type": "reasoning", "content": [SAID] * size}, USER], "store": False},
    ],
    "input[].output": [lambda size: {"input": [item(0), outcome(0, [SAID] * size), USER], "store": False}],
    "metadata": [lambda size: {**RESPONSE, "metadata": {f"k{place}": "v" for place in range(size)}}],
    "include": [lambda size: {**RESPONSE, "include": ["message.output_text.logprobs"] * size}],
    "tools": [
        lambda size: {**RESPONSE, "tools": [{"type": "function", "name": f"f{n}"} for n in range(size)]}
    ],
    "tools[].parameters": [
        lambda size: {
            **RESPONSE,
            "tools": [{"type": "function", "name": "f", "parameters": {"enum": list(range(size))}}],
            "tool_choice": "required",
        }
    ],
    "tool_choice.tools": [
        lambda size: {
            **RESPONSE,
            "tools": [{"type": "function", "name": "f"}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}] * size,
            },
        }
    ],
    "text.format.schema": [
        lambda size: {
            **RESPONSE,
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"enum": list(range(size))}}},
        }
    ],
}
COMPLETION_FIELDS: dict[str, list[Make]] = {
    **drawing({"prompt": "a"}),
    "prompt": [
        lambda size: {"prompt": ["a"] * size},
        lambda size: {"prompt": [3] * size},
        lambda size: {"prompt": [3] * (size // 13)},
        lambda size: {"prompt": [[3] * (size // 64)] * 64},
    ],
}
ROUTES: dict[str, dict[str, list[Make]]] = {
    "/v1/chat/completions": CHAT_FIELDS,
    "/v1/chat/completions/render": {
        **CHAT_FIELDS,
        "render_fits": [lambda size: chat(render_fits=["pad"] * size)],
    },
    "/tokenize": CHAT_FIELDS,
    "/detokenize": {
        "tokens": [lambda size: {"tokens": [3] * size}, lambda size: {"tokens": [3] * (size // 13)}]
    },
    "/v1/completions": COMPLETION_FIELDS,
    "/v1/responses": RESPONSE_FIELDS,
    "/v1/responses/input_tokens": RESPONSE_FIELDS,
    "/v1/batches": {
        "metadata": [
            lambda size: {
                "input_file_id": "file-1",
                "endpoint": "/v1/responses",
                "completion_window": "24h",
                "metadata": {f"k{place}": "v" for place in range(size // 8)},
            }
        ]
    },
}
# These read as another route does: only what they have beside that is measured.
ALIKE = {
    "/v1/chat/completions/render": CHAT_FIELDS,
    "/tokenize": CHAT_FIELDS,
    "/v1/responses/input_tokens": RESPONSE_FIELDS,
}
ASKED = [
    pytest.param(route, make, id=f"{route}-{field}-{number}")
    for route, fields in ROUTES.items()
    for field, makes in fields.items()
    if field not in ALIKE.get(route, {})
    for number, make in zip(count(), makes, strict=False)
]


def lists(kind: dict[str, Any], known: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the dotted path of every field of a JSON schema that holds a list, or an object of any size."""
    if "$ref" in kind:
        kind = known[kind["$ref"].rpartition("/")[2]]
    for choice in (*kind.get("anyOf", ()), *kind.get("oneOf", ())):
        yield from lists(choice, known, path)
    free = kind.get("type") == "object" and kind.get("additionalProperties") is not False
    if path and ("items" in kind or free):
        yield path
    yield from lists(kind["items"], known, f"{path}[]") if "items" in kind else ()
    for name, inner in kind.get("properties", {}).items():
        yield from lists(inner, known, f"{path}.{name}" if path else name)


@pytest.mark.parametrize("route", [path for (_, path), operation in OPERATIONS.items() if operation.body])
def test_every_list_of_a_request_is_measured_here(route: str) -> None:
    operation = OPERATIONS["POST", route]
    schema = TypeAdapter[Any](operation.body).json_schema()
    assert set(lists(schema, schema.get("$defs", {}))) - {"prompt[]"} == set(ROUTES[route])


@pytest.mark.slow
@pytest.mark.parametrize(("route", "make"), ASKED)
async def test_work_grows_no_faster_than_what_is_asked(route: str, make: Make, tmp_path: Path) -> None:
    bodies = {
        size: orjson.dumps({"model": "m", **make(size)}) for size in (FEW // 2, FEW, FEW * 2, FEW * TIMES)
    }
    # A body of over MOST_VALUES bytes is searched before it is parsed. With blanks, small and large ones are.
    searched = {size: body + b" " * MOST_VALUES for size, body in bodies.items()}
    engine: Any = ScriptedEngine()
    conversations = PromptBuilder(engine, load("demo"), Settings(state_dir=tmp_path))

    async def work(size: int) -> None:
        await prepare(route, searched[size], conversations)

    async def peak(size: int) -> float:
        tracemalloc.start()
        try:
            await prepare(route, bodies[size], conversations)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await work(FEW)
    try:
        await assert_linear(work, FEW, times=TIMES)
        assert await peak(FEW * 2) < MOST_BYTES * await peak(FEW // 2) + SLACK_BYTES
    finally:
        await conversations.close()


async def prepare(route: str, body: bytes, conversations: PromptBuilder) -> None:
    """Read a body and make its prompts, as its route does."""
    caller = Caller("c", "c", CallerClass())
    with suppress(RequestError):
        match route:
            case "/v1/completions":
                wanted = completions.read(parse(body, CompletionRequest), "i", "c")
                await conversations.prompts(wanted, caller)
                return
            case "/v1/responses" | "/v1/responses/input_tokens":
                request = parse(body, ResponseRequest)
                wanted = responses.read(request, responses.Conversation((), request.input), "i", "c")
            case "/v1/chat/completions":
                wanted = chats.read(parse(body, ChatCompletionRequest), "i", "c")
            case _:
                parse(body, OPERATIONS["POST", route].body)
                return
        await conversations.fit(wanted, caller)
