"""`response_format` and `structured_outputs` on the wire."""

from typing import Any

import orjson
import pytest

from gateway.engine.interface import Constraint
from gateway.errors import InvalidValue, RequestError
from gateway.generation.chat import read
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.validation import parse
from tests.each import each


def asked(**fields: Any) -> Constraint | None:
    """Return the constraint that a request with these fields comes to."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return read(parse(orjson.dumps(body), ChatCompletionRequest), "id", "caller").constraint


def schema_format(schema: Any = None, **fields: Any) -> dict[str, Any]:
    named = {"name": "n", **({} if schema is None else {"schema": schema}), **fields}
    return {"type": "json_schema", "json_schema": named}


def test_text_is_free() -> None:
    assert asked() is None
    assert asked(response_format={"type": "text"}) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": schema_format({"type": "object"})}, "response_format.json_schema.schema"),
        ({"response_format": schema_format(strict=True)}, "response_format.json_schema.schema"),
        ({"structured_outputs": {"json": {"type": "integer"}}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": '{"type": "integer"}'}}, "structured_outputs.json"),
        ({"structured_outputs": {"json_object": True}}, "structured_outputs.json_object"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, "structured_outputs.grammar"),
    ],
)
def test_a_form_names_the_field_that_asks_for_it(fields: dict[str, Any], param: str) -> None:
    found = asked(**fields)
    assert found is not None
    assert found.param == param


@each(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": schema_format(name="no spaces")}, "response_format.json_schema.name"),
        ({"response_format": schema_format([])}, "response_format.json_schema.schema"),
        ({"response_format": schema_format(strict="yes")}, "response_format.json_schema.strict"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[]"}}, "structured_outputs.json"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a"] * 1001}}, "structured_outputs.choice"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs.json_object"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
    ],
)
def test_what_makes_no_form_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    assert caught.value.param == param


def test_a_bad_part_of_a_schema_is_named() -> None:
    with pytest.raises(InvalidValue) as caught:
        asked(response_format=schema_format({"properties": {"a": {"type": "array", "uniqueItems": True}}}))
    assert caught.value.param == "response_format.json_schema.schema.properties.a.uniqueItems"
