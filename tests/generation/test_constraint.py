"""From what a client asks of an answer's form to a grammar, and what is refused on the way."""

from typing import Any

import orjson
import pytest

from gateway.errors import InvalidValue
from gateway.generation import constraint
from tests.each import each
from tests.growth import assert_quick

PARAM = "response_format.json_schema.schema"


def written(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as the engine gets it, without its layout."""
    grammar = constraint.json_schema(schema, PARAM).grammar
    head, _, source = grammar.partition("%json ")
    assert head == 'start: " " json\njson: '
    found: dict[str, Any] = orjson.loads(source)
    del found["x-guidance"]
    return found


def refused(schema: dict[str, Any]) -> InvalidValue:
    with pytest.raises(InvalidValue) as caught:
        constraint.json_schema(schema, PARAM)
    assert caught.value.message.startswith(f"{caught.value.param}: ")
    return caught.value


def test_objects_are_closed_where_they_do_not_say_otherwise() -> None:
    inner = {"type": "object", "properties": {"b": {}}}
    schema = {"properties": {"a": inner, "c": {"properties": {}, "additionalProperties": True}}}
    assert written(schema) == {
        "properties": {
            "a": {**inner, "additionalProperties": False},
            "c": {"properties": {}, "additionalProperties": True},
        },
        "additionalProperties": False,
    }
    assert written({"type": "object"}) == {"type": "object"}


def test_objects_that_are_joined_stay_open() -> None:
    schema: dict[str, Any] = {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}
    assert written(schema) == schema


def test_a_property_may_be_named_like_a_keyword() -> None:
    properties: dict[str, Any] = {
        "uniqueItems": {"type": "string", "maxLength": 9},
        "minItems": {"type": "integer", "minimum": 0, "maximum": 9},
        "$ref": {},
        "not": {},
    }
    assert written({"properties": properties, "additionalProperties": False})["properties"] == properties


def test_a_keyword_that_asks_for_nothing_is_left_out() -> None:
    assert written({"type": "array", "maxItems": 9, "uniqueItems": False}) == {"type": "array", "maxItems": 9}


NAMES = {"type": "object", "additionalProperties": {"type": "boolean"}}


@each(
    "idle",
    [
        {"propertyNames": {"type": "string"}},
        {"propertyNames": {"pattern": "^.*$", "description": "a key"}},
        {"propertyNames": {"anyOf": [{"const": "a"}, {"type": ["null", "string"], "minLength": 0}]}},
        {"propertyNames": {"$ref": "#/$defs/key"}},
        {"propertyNames": True},
        {"dependentRequired": {}, "dependentSchemas": {"a": True}, "dependencies": {"a": []}},
        {"then": {"type": "string"}, "minContains": 3},
        {"if": {"const": 1}, "then": {"description": "x"}},
        {"unevaluatedProperties": {}, "not": False},
        {"contains": {"type": "null"}, "minContains": 0},
        {"uniqueItems": True, "maxItems": 1},
        {"$dynamicAnchor": "x", "$schema": "http://json-schema.org/schema#"},
        {"format": "int64"},
    ],
)
@each("around", [{}, {"allOf": [{"type": "object"}]}])
def test_a_keyword_that_restricts_nothing_is_left_out(idle: dict[str, Any], around: dict[str, Any]) -> None:
    kept = {"$defs": {"key": {"title": "Key"}}, **NAMES, **around}
    left = {name: value for name, value in idle.items() if name == "maxItems"}
    assert written({**kept, **idle}) == {**kept, **left}


@each(
    "schema",
    [
        {"propertyNames": False},
        {"propertyNames": {"type": "string", "minLength": 1}},
        {"propertyNames": {"enum": ["a"]}},
        {"propertyNames": {"pattern": "^a.*$"}},
        {"propertyNames": {"oneOf": [{}, {"type": "string"}]}},
        {"propertyNames": {"$ref": "#/propertyNames"}},
        {"contains": False},
        {"if": {}, "then": False},
        {"uniqueItems": True, "maxItems": 2},
        {"dependentRequired": {"a": ["b"]}},
    ],
)
def test_a_keyword_that_restricts_is_refused_by_name(schema: dict[str, Any]) -> None:
    assert refused(schema).param == f"{PARAM}.{next(iter(schema))}"


def test_what_a_schema_leaves_open_is_bounded_so_that_every_answer_can_end() -> None:
    assert written({"type": ["string", "null"], "minLength": 2000}) == {
        "type": ["string", "null"],
        "minLength": 2000,
        "maxLength": 2000,
    }
    assert written({"type": "array", "items": {"type": "string"}}) == {
        "type": "array",
        "items": {"type": "string", "maxLength": 1000},
        "maxItems": 100,
    }
    assert written({"type": "integer", "minimum": 0}) == {"type": "integer", "minimum": 0, "maximum": 10**15}
    for said in (
        {"type": "string", "pattern": "a+"},
        {"type": "string", "enum": ["a"]},
        {"type": "number", "const": 1},
    ):
        assert written(said) == said


def test_a_client_cannot_set_the_engines_own_options() -> None:
    grammar = constraint.json_schema({"x-guidance": {"lenient": True}}, PARAM).grammar
    assert "lenient" not in grammar


@each(
    ("schema", "where"),
    [
        ({"properties": {"a": {"uniqueItems": True}}}, "properties.a.uniqueItems"),
        ({"anyOf": [{}, {"not": {}}]}, "anyOf[1].not"),
        ({"$defs": {"x": {"items": {"$ref": "http://127.0.0.1/"}}}}, "$defs.x.items.$ref"),
        ({"items": {"minItems": 10_001}}, "items.minItems"),
        ({"multipleOf": 10_001}, "multipleOf"),
        ({"prefixItems": [{"maxProperties": 10**18}]}, "prefixItems[0].maxProperties"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_place(schema: dict[str, Any], where: str) -> None:
    assert refused(schema).param == f"{PARAM}.{where}"


@pytest.mark.parametrize("multiples", [[101, 103], [101.0, 103.0], [1.01, 103], [-101, 103], [10_000] * 240])
def test_multiples_that_meet_are_bounded_together(multiples: list[float]) -> None:
    assert refused({"allOf": [{"multipleOf": value} for value in multiples]}).param == PARAM


@pytest.mark.parametrize("multiples", [[10, 100], [0.01, 0.01, 0.5], [0, 5]])
def test_multiples_that_meet_may_be_small(multiples: list[float]) -> None:
    assert written({"allOf": [{"multipleOf": value} for value in multiples]})


@pytest.mark.parametrize("multiple", [99_999, 99_999.0, 123.456, -99_999])
def test_a_multiple_costs_what_its_digits_say(multiple: float) -> None:
    assert refused({"multipleOf": multiple}).param == f"{PARAM}.multipleOf"


def test_a_schemas_size_is_looked_at_before_its_numbers() -> None:
    properties = {f"p{place}": {"multipleOf": 9973} for place in range(120_000)}
    schema = {"type": "object", "properties": properties}
    assert "the limit is 65536" in refused(schema).message
    assert_quick(lambda: refused(schema), 1)


def test_depth_and_size_are_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"items": deep}
    assert "32 levels" in refused(deep).message
    assert "the limit is 65536" in refused({"enum": ["x" * 70_000]}).message
    for make in (constraint.regex, constraint.grammar):
        with pytest.raises(InvalidValue, match="the limit is 65536"):
            make("x" * 70_000, "p")


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [("a/b", r"/a\/b/"), (r"a\/b", r"/a\/b/"), ("a\nb", r"/a\nb/"), (r"\\/", r"/\\\/"), ("[/]", r"/[\/]/")],
)
def test_a_pattern_cannot_leave_its_slashes(pattern: str, literal: str) -> None:
    assert literal in constraint.regex(pattern, "p").grammar


def test_a_choice_cannot_leave_its_quotes() -> None:
    assert constraint.choice(['a"', "b\n"], "p").grammar == r'start: " " ("a\"" | "b\n")'
