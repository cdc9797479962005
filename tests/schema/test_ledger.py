"""The ledger: it knows every field of OpenAI's, and what it says is what happens."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai.types.chat import completion_create_params
from typer.testing import CliRunner

from gateway.cli import app
from gateway.errors import UnknownParameter, UnsupportedParameter
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.ledger import Ledger, Row, Verdict, honoured, refused, without_effect
from gateway.schema.parameters import CHAT
from gateway.schema.validation import parse
from tests.each import each
from tests.schema.openai_fields import fields

OPENAI = sorted(
    {
        *fields(completion_create_params.CompletionCreateParamsNonStreaming),
        *fields(completion_create_params.CompletionCreateParamsStreaming),
    }
)


def those(verdict: Verdict) -> list[Row]:
    return [row for row in CHAT.rows() if row.verdict is verdict]


SOURCE = {"type": "image", "source": {"url": "data:"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}
RESOURCE = {"type": "resource", "resource": {"text": "x"}}
PARTS = {"file": FILE, "source": SOURCE, "resource": RESOURCE}
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"type": "function", "id": "c", "function": {"name": "f", "arguments": "{}"}}
# What must be in a request for a field inside it.
AROUND: dict[str, Any] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "n"}},
    "structured_outputs": {"json_object": True},
    "tools": [TOOL],
    "tool_choice": TOOL,
    "tool_choice.allowed_tools": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [TOOL]},
    },
}


def body(name: str | None = None, value: Any = None, like: str = "") -> bytes:
    """Return a request in which the field `name` (a dotted path) has `value`; one that has it, or `like`."""
    path = name or like
    outer, _, inner = path.replace("[]", "").partition(".")
    around = (each for name, each in PARTS.items() if f".{name}." in path)
    part = deepcopy(next(around, IMAGE))
    message: dict[str, Any] = {"role": "user", "content": [part]}
    if ".tool_calls[]." in path:
        message = {"role": "assistant", "tool_calls": [deepcopy(CALL)]}
    content: dict[str, Any] = {"model": "m", "messages": [message]}
    content |= {"stream": True, "stream_options": {}}
    outer = "tool_choice.allowed_tools" if path.startswith("tool_choice.allowed_tools.") else outer
    if inner and outer in AROUND:
        content |= {"tools": [TOOL], outer.partition(".")[0]: deepcopy(AROUND[outer])}
    if name is not None:
        *above, last = name.replace("[]", "").split(".")
        place: Any = content
        for step in above:
            place = place[step][0] if isinstance(place[step], list) else place[step]
        place[last] = value
    return orjson.dumps(content)


def read(name: str | None = None, value: Any = None, like: str = "") -> ChatCompletionRequest:
    return parse(body(name, value, like), ChatCompletionRequest)


def test_the_walk_finds_openais_fields_at_every_depth() -> None:
    assert {
        "model",
        "stream",
        "messages[].content[].image_url.url",
        "messages[].tool_calls[].function.arguments",
        "response_format.json_schema.schema",
        "tools[].function.parameters",
    } <= set(OPENAI)


@each("name", OPENAI)
def test_the_ledger_knows_every_field_of_openais(name: str) -> None:
    assert CHAT.row(name) is not None


def test_what_is_honoured_is_what_a_request_has() -> None:
    schema = ChatCompletionRequest.model_json_schema()
    assert {row.field for row in those(Verdict.HONOURED)} == set(in_schema(schema, schema["$defs"]))


def in_schema(kind: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the dotted path of every field in a JSON schema."""
    if "$ref" in kind:
        kind = definitions[kind["$ref"].rpartition("/")[2]]
    for choice in (*kind.get("anyOf", ()), *kind.get("oneOf", ())):
        yield from in_schema(choice, definitions, path)
    yield from in_schema(kind["items"], definitions, f"{path}[]") if "items" in kind else ()
    for name, inner in kind.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        yield where
        yield from in_schema(inner, definitions, where)


@each("name", [row.field for row in those(Verdict.WITHOUT_EFFECT)])
@each("value", ["x", 1, {"a": ["b"]}])
def test_what_is_without_effect_changes_nothing(name: str, value: Any) -> None:
    assert read(name, value) == read(like=name)


@each("row", those(Verdict.REFUSED))
def test_what_is_refused_is_refused_by_name_and_with_the_reason(row: Row) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        read(row.field, "something else")
    param = row.field.replace("[]", "[0]")
    assert caught.value.param == param
    assert caught.value.message == f"{param}: this parameter is not supported: {row.meaning}"


@each(("name", "value"), [(row.field, value) for row in those(Verdict.REFUSED) for value in row.but])
def test_what_is_refused_is_taken_where_it_asks_for_nothing(name: str, value: Any) -> None:
    assert read(name, value) == read(like=name)


def test_a_value_of_another_type_is_not_the_one_that_asks_for_nothing() -> None:
    for name, value in (("best_of", True), ("echo", 0), ("priority", False)):
        with pytest.raises(UnsupportedParameter):
            read(name, value)


@each(
    "name",
    [
        *(row.field for row in CHAT.rows() if row.field not in ("model", "messages")),
        "options",
        "messages[].metadata",
        "messages[].options",
        "messages[].content[].options",
        "messages[].content[].image_url.size",
        "stream_options.options",
    ],
)
def test_null_asks_for_nothing_anywhere_known_or_not(name: str) -> None:
    required = {"role", "content", "type", "image_url", "url", "file_id", "stream", "stream_options"}
    required |= {"text", "name", "json_schema", "json_object", "function", "mode", "tools", "id", "arguments"}
    if name.rpartition(".")[2] not in required or name == "messages[].content[].url":
        assert read(name, None) == read(like=name)


@each(
    ("name", "value"),
    [
        ("options", "x"),
        ("stream_options.speed", "x"),
        ("tools[].speed", "x"),
        ("messages[].images", ["x"]),
        ("messages[].image_url", {"url": "x"}),
        ("messages[].experimental_attachments", [{"url": "x"}]),
        ("messages[].parts", [{"inline": {"content": "iVBORw0KGgo"}}]),
        ("messages[].content[].imageUrl", "x"),
        ("messages[].content[].thing", "data:image/png;base64,"),
    ],
)
def test_what_the_ledger_does_not_know_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnknownParameter) as caught:
        read(name, value)
    assert caught.value.param == name.replace("[]", "[0]")


@each(
    ("name", "value"),
    [
        ("messages[].timestamp", 1),
        ("messages[].type", "text"),
        ("messages[].images", []),
        ("messages[].metadata", {"a": ["b"], "filename": "cat.png"}),
        ("messages[].tool_calls[].extra_content", {"google": {"thought_signature": "x"}}),
        ("messages[].content[].alt", "a cat"),
        ("messages[].content[].image_url.format", "image/png"),
    ],
)
def test_what_programs_add_to_messages_is_ignored_and_named(name: str, value: Any) -> None:
    request = read(name, value)
    assert request.ignored == (name,)
    assert request.messages == read(like=name).messages


def test_at_most_sixteen_ignored_fields_are_named() -> None:
    message = {"role": "user", "content": "x", **{f"k{number}": 1 for number in range(300)}}
    request = parse(orjson.dumps({"messages": [message] * 2}), ChatCompletionRequest)
    assert request.ignored == tuple(f"messages[].k{number}" for number in range(16))


ROWS = Ledger(
    {
        "A": (honoured("a", "It is."), honoured("a.b", "It is."), refused("a.c", "No.", (1, []))),
        "B": (without_effect("d", "Why not."), honoured("e", "Free.")),
    }
)


def test_what_is_inside_shares_the_fate_of_what_is_around_it() -> None:
    assert ROWS.row("a.c.x[].y") is ROWS.row("a.c")
    assert ROWS.row("d[].x") is ROWS.row("d")
    assert ROWS.row("a.x") is None
    assert ROWS.row("e.x") is None


def test_a_body_without_anything_to_drop_is_not_copied() -> None:
    content = {"a": [{"b": {"x": None}}, 5], "e": {"x": None}, "f": 1}
    assert ROWS.sift(content)[0] is content


def test_a_field_without_rows_inside_is_left_as_it_is() -> None:
    sifted, _ = ROWS.sift({"e": {"const": None}, "a": {"b": {"const": None}, "x": None}})
    assert sifted == {"e": {"const": None}, "a": {"b": {"const": None}}}


def test_a_field_cannot_be_in_a_ledger_twice() -> None:
    with pytest.raises(ValueError, match=r"^a appears twice$"):
        Ledger({"A": (honoured("a", ""),), "B": (refused("a", ""),)})


def test_a_field_inside_one_that_is_not_honoured_has_no_row() -> None:
    with pytest.raises(ValueError, match=r"^a\.b is inside a field that is not honoured$"):
        Ledger({"A": (refused("a", ""), honoured("a.b", ""))})


def test_errors_name_the_place_in_lists_of_lists() -> None:
    ledger = Ledger({"A": (honoured("a", ""), honoured("a[].b", ""), refused("a[].b[].c", ""))})
    with pytest.raises(UnsupportedParameter) as caught:
        ledger.sift({"a": [{}, {"b": [5, {"c": None}, {"c": 1}]}]})
    assert caught.value.param == "a[1].b[2].c"


def test_the_tables_have_a_row_for_each_field() -> None:
    assert ROWS.tables().splitlines()[:7] == [
        "## A",
        "",
        "| field | | |",
        "| --- | --- | --- |",
        "| `a` | honoured | It is. |",
        "| `a.b` | honoured | It is. |",
        "| `a.c` | refused | No. Accepted as `1`, `[]`. |",
    ]
    assert CHAT.tables().count("\n| `") == len(list(CHAT.rows()))


def test_the_page_in_the_docs_is_the_ledger() -> None:
    """Bring it up to date with `llava-gateway parameters > docs/parameters.md`."""
    result = CliRunner().invoke(app, ["parameters"])
    assert result.exit_code == 0
    assert (Path(__file__).parents[2] / "docs/parameters.md").read_text(encoding="utf-8") == result.stdout


ECHOED: list[dict[str, Any]] = [
    # OpenAI's SDKs, after `.parse()` or `.stream()`
    {
        "role": "assistant",
        "content": "A.",
        "refusal": None,
        "annotations": [],
        "parsed": None,
        "tool_calls": [],
    },
    # LiteLLM
    {
        "role": "assistant",
        "content": "A.",
        "prefix": True,
        "provider_specific_fields": {"refusal": None},
        "function_call": None,
    },
    # Gradio's `load_chat`
    {"role": "assistant", "content": "A.", "metadata": None, "options": None},
    {"role": "assistant", "content": "A.", "reasoning_content": None, "tool_call_id": None, "id": "msg_1"},
]


@each("message", ECHOED)
def test_an_answer_may_be_sent_back_as_sdks_echo_it(message: dict[str, Any]) -> None:
    request = {"model": "m", "messages": [message]}
    plain = {"model": "m", "messages": [{"role": "assistant", "content": "A."}]}
    assert parse(orjson.dumps(request), ChatCompletionRequest) == parse(
        orjson.dumps(plain), ChatCompletionRequest
    )
