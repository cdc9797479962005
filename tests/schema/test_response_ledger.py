"""The ledger of Responses: it knows every field of OpenAI's, and what it says is what happens."""

import tracemalloc
from typing import Any

import orjson
import pytest
from openai.types.responses import response_create_params

from gateway.errors import RequestError, UnknownParameter, UnsupportedParameter
from gateway.schema.ledger import Row, Verdict
from gateway.schema.response_parameters import RESPONSES
from gateway.schema.responses_request import ResponseRequest
from gateway.schema.validation import parse
from tests.each import each
from tests.schema.openai_fields import fields
from tests.schema.test_ledger import in_schema

# The kinds of items, parts, tools, choices and formats that are served; every other is refused by its name.
SERVED = {
    "allowed_tools",
    "function",
    "function_call",
    "function_call_output",
    "input_file",
    "input_image",
    "input_text",
    "item_reference",
    "json_object",
    "json_schema",
    "message",
    "output_text",
    "reasoning",
    "refusal",
    "text",
}
REFUSED: set[tuple[str, str]] = set()  # where, and the type


def _refused(path: str, kind: str) -> bool:
    row = RESPONSES.row(path)
    if not kind or kind in SERVED or row is None or row.verdict is not Verdict.HONOURED:
        return False
    REFUSED.add((path, kind))
    return True


OPENAI = sorted(
    {
        *fields(response_create_params.ResponseCreateParamsNonStreaming, skip=_refused),
        *fields(response_create_params.ResponseCreateParamsStreaming, skip=_refused),
    }
)


def those(verdict: Verdict) -> list[Row]:
    return [row for row in RESPONSES.rows() if row.verdict is verdict]


def body(name: str | None = None, value: Any = None) -> bytes:
    """Return a request in which the field `name` (a dotted path) has `value`."""
    content: dict[str, Any] = {
        "model": "m",
        "input": [_item(name or "")],
        "stream": True,
        "stream_options": {},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "tools": [{"type": "function", "name": "f"}],
        "prompt_cache_options": {},
    }
    if name is not None:
        *above, last = name.replace("[]", "").split(".")
        place: Any = content
        for step in above:
            place = place[step][0] if isinstance(place[step], list) else place[step]
        place[last] = value
    return orjson.dumps(content)


def _item(name: str) -> dict[str, Any]:
    if name.startswith("input[].output"):
        part = {"type": "input_text", "text": "x"}
        return {"type": "function_call_output", "call_id": "c", "output": [part]}
    if name in ("input[].summary", "input[].encrypted_content"):
        return {"type": "reasoning"}
    return {"role": "user", "content": [{"type": "input_text", "text": "x"}]}


def read(name: str | None = None, value: Any = None) -> ResponseRequest:
    return parse(body(name, value), ResponseRequest)


def test_the_walk_finds_openais_fields_at_every_depth() -> None:
    assert {
        "input[].content[].image_url",
        "input[].output[].text",
        "input[].call_id",
        "text.format.schema",
        "tools[].parameters",
        "stream_options.include_obfuscation",
    } <= set(OPENAI)
    assert {("input[]", "computer_call"), ("tools[]", "web_search"), ("tool_choice", "mcp")} <= REFUSED


@each("name", OPENAI)
def test_the_ledger_knows_every_field_of_openais(name: str) -> None:
    assert RESPONSES.row(name) is not None


@each(("path", "kind"), sorted(REFUSED))
def test_every_kind_that_is_not_served_is_refused_by_its_name(path: str, kind: str) -> None:
    content = orjson.loads(body(f"{path}.x" if path.startswith("input[].output") else None))
    last = path.rpartition(".")[2]
    if path.startswith("input[]."):
        content["input"][0][last.removesuffix("[]")] = [{"type": kind}]
    else:
        content[path.removesuffix("[]")] = [{"type": kind}] if last.endswith("[]") else {"type": kind}
    with pytest.raises(UnsupportedParameter) as caught:
        parse(orjson.dumps(content), ResponseRequest)
    assert caught.value.param == f"{path.replace('[]', '[0]')}.type"
    assert kind in caught.value.message


def test_what_is_honoured_is_what_a_request_has() -> None:
    schema = ResponseRequest.model_json_schema()
    assert {row.field for row in those(Verdict.HONOURED)} == set(in_schema(schema, schema["$defs"]))


@each("name", [row.field for row in those(Verdict.WITHOUT_EFFECT)])
@each("value", ["x", 1, {"a": ["b"]}])
def test_what_is_without_effect_changes_nothing(name: str, value: Any) -> None:
    assert read(name, value) == read(name, None)


@each("row", those(Verdict.REFUSED))
def test_what_is_refused_is_refused_by_name_and_with_the_reason(row: Row) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        read(row.field, "something else")
    param = row.field.replace("[]", "[0]")
    assert caught.value.param == param
    assert caught.value.message == f"{param}: this parameter is not supported: {row.meaning}"


@each(("name", "value"), [(row.field, value) for row in those(Verdict.REFUSED) for value in row.but])
def test_what_is_refused_is_taken_where_it_asks_for_nothing(name: str, value: Any) -> None:
    assert read(name, value) == read()


@each("name", ["options", "input[].image", "input[].content[].attachment", "tools[].options"])
def test_what_the_ledger_does_not_know_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnknownParameter) as caught:
        read(name, "x")
    assert caught.value.param == name.replace("[]", "[0]")


@each("name", ["input[].options", "input[].content[].alt", "input[].output[].alt"])
def test_what_programs_add_to_items_is_ignored_and_named(name: str) -> None:
    request = parse(body(name, "x"), ResponseRequest)
    assert request.ignored == (name,)


PLAIN: dict[str, Any] = {"model": "m", "input": "x"}


@each(
    "body",
    [
        orjson.dumps({"model": "m", "input": [0] * 20_000}),
        orjson.dumps({"model": "m", "input": [{"role": "user", "content": [0] * 20_000}]}),
        orjson.dumps({"model": "m", "input": [{f"k{number}": 1 for number in range(10_000)}]}),
        orjson.dumps({**PLAIN, "metadata": {f"k{number}": 1 for number in range(10_000)}}),
        orjson.dumps({**PLAIN, "include": [0] * 20_000}),
        orjson.dumps({**PLAIN, "tools": [0] * 20_000}),
        orjson.dumps(
            {**PLAIN, "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [0] * 20_000}}
        ),
    ],
)
def test_a_body_of_many_mistakes_takes_no_memory_for_each(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as caught:
            parse(body, ResponseRequest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(body)
    assert len(caught.value.message) < 400
