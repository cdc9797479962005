"""Parameters of the wrong type, size or shape, and JSON that is hardly any."""

from typing import Any

from tests.api.asking import QUESTION, chat
from tests.hostile.cases import Case, of_field, of_json


def _schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def _deep(depth: int) -> str:
    """Return the fields of a request whose schema is so deep."""
    inner = '{"type": "object", "properties": {"a": ' * depth + '{"type": "string"}' + "}}" * depth
    return f'"response_format": {{"type": "json_schema", "json_schema": {{"name": "x", "schema": {inner}}}}}'


def _guided(**fields: Any) -> dict[str, Any]:
    return chat(structured_outputs=fields)


# tests/schema/test_parameters.py has the edges of every range and the wrong types; here are vast values.
NUMBERS = [
    *of_field("n", 10**9, 2**63),
    *of_field("max_tokens", 10**9, 2**62, code=None),  # cut to what the context has left
    *of_field("temperature", 10**30, "hot"),
    *of_field("top_k", 10**30, 2**63),
    *of_field("repetition_penalty", 10**6),
    *of_field("seed", 2**64, -(2**64)),
    *of_field("min_tokens", 10**9),
    *of_field("stop_token_ids", [10**9], list(range(10_000))),
    *of_field("logit_bias", {"-1": 1}, {"x": 1}, {"9" * 30: 1}, {str(number): 1 for number in range(5000)}),
    *of_field("user", "x" * 10**6, code=None),
]
TEXTS = [
    *of_field("stop", ["x"] * 10_000, ["x" * 10**6], "x" * 10**6, [1], {"a": 1}, 5),
    *of_field("stop", [""], "", code=None),
    *of_field("model", "", code=None),
    *(
        Case(f"model {name[:20]!r}", chat(model=name), "model_not_found", 404)
        for name in ("x" * 10**6, "../../etc/passwd", "llava-demo\0", "LLAVA-DEMO", "gpt-4o")
    ),
    *of_field("model", 5, [], {}),
    *of_field("response_format", 5),
    *of_field("response_format", {"type": "xml"}, {"type": []}, code="unsupported_parameter"),
    *of_field("response_format", {}, {"type": "json_schema"}, code="missing_required_parameter"),
    *of_field("tools", 5, {"a": 1}, ["x"]),
    *of_field("tool_choice", "all", 5),
    *of_field("messages", 5, {}, [5], [None], [[]]),
    *of_field("stream_options", 5, "x", []),
    *of_field("constructor", 1, code="unknown_parameter"),
    *of_field("__proto__", {"admin": True}, code="unknown_parameter"),
    *of_field("x" * 10**6, 1, code="unknown_parameter"),
    Case("10,000 unknown fields", chat(**{f"field{number}": 1 for number in range(10_000)})),
]
JSON = [
    *(
        of_json(f"temperature {value}", f'"temperature": {value}')
        for value in ("NaN", "Infinity", "-Infinity", "1e", "+1", ".5", "0x10", "01")
    ),
    of_json("1e999", '"temperature": 1e999', "invalid_value"),
    of_json("max_tokens 1e3", '"max_tokens": 1e3', "invalid_value"),
    of_json("integer of 5,000 digits", f'"seed": {"9" * 5000}'),
    of_json("trailing comma", '"n": 1,'),
    of_json("comment", '"n": 1 /* one */'),
    of_json("single quotes", "'n': 1"),
    of_json("deep array", f'"user": {"[" * 100_000}{"]" * 100_000}'),
    of_json("deep object", '"user": ' + '{"a":' * 100_000 + "1" + "}" * 100_000),
    of_json("array 200 deep", f'"metadata": {"[" * 200}{"]" * 200}', None),
    of_json("duplicate key", '"n": 1, "n": 99', "invalid_value"),
    of_json("the same key twice, the last is good", '"n": 99, "n": 1', None),
    of_json("lone surrogate escaped", '"stop": "\\ud800"'),
    of_json("lone surrogate in bytes", '"stop": "\ud800"'),
    of_json("NUL in a key", '"n\\u0000": 1', "unknown_parameter"),
    Case("two documents", b'{"model": "llava-demo"}{"model": "llava-demo"}', "invalid_json"),
    Case("BOM", b"\xef\xbb\xbf" + b"{}", "missing_required_parameter"),
    Case("UTF-16", '{"model": "llava-demo"}'.encode("utf-16"), "invalid_json"),
    Case("UTF-32", '{"model": "llava-demo"}'.encode("utf-32"), "invalid_json"),
    Case("nothing but blanks", b" " * 10**6, "invalid_json"),
    Case("a million commas", b"[" + b"," * 10**6 + b"]"),
    Case("a pickle", b"\x80\x04\x95\x00\x00\x00\x00", "invalid_json"),
    Case(
        "XML with entities",
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
        "invalid_json",
    ),
    Case("an array of requests", [chat(), chat()], "invalid_json"),
    Case("overlong UTF-8", b'{"model": "\xc0\xaf"}', "invalid_json"),
    Case("a string", '"' * 3, "invalid_json"),
]
FORMS = [
    of_json("schema 1,000 deep", _deep(1000)),
    of_json("schema 100 deep", _deep(100)),
    Case("schema from the web", chat(response_format=_schema({"$ref": "http://169.254.169.254/"}))),
    Case("schema from a file", chat(response_format=_schema({"$ref": "file:///etc/passwd"}))),
    Case(
        "schema with 10,000 properties",
        chat(
            response_format=_schema(
                {"type": "object", "properties": {f"a{i}": {"type": "string"} for i in range(10_000)}}
            )
        ),
    ),
    Case(
        "schema with a vast enum", chat(response_format=_schema({"enum": [str(i) for i in range(100_000)]}))
    ),
    Case("schema that is a list", chat(response_format=_schema([]))),
    Case(
        "schema name of other letters",
        chat(response_format={"type": "json_schema", "json_schema": {"name": "../x", "schema": {}}}),
    ),
    Case("regex of 1 MB", _guided(regex="a" * 10**6)),
    Case("regex of no string", _guided(regex=5)),
    Case("choice of nothing", _guided(choice=[])),
    Case("choice of 100,000", _guided(choice=[str(i) for i in range(100_000)])),
    Case("choice of numbers", _guided(choice=[1, 2])),
    Case("grammar of 1 MB", _guided(grammar='start: "a"\n' * 100_000)),
    Case("two forms at once", _guided(regex="a", choice=["a"])),
    Case("unknown form", _guided(python="exit()"), "unknown_parameter"),
    Case("129 tools", chat(tools=[{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)])),
    Case("tool with a path for a name", chat(tools=[{"type": "function", "function": {"name": "../../x"}}])),
    Case(
        "tool choice that is not offered",
        chat(
            tools=[{"type": "function", "function": {"name": "f"}}],
            tool_choice={"type": "function", "function": {"name": "g"}},
        ),
    ),
    Case(
        "results of no call",
        chat(messages=[QUESTION, {"role": "tool", "tool_call_id": "x", "content": "y"}]),
        None,
    ),
]
# What the engine alone can judge.
ENGINES_FORMS = [
    Case("schema of itself", chat(response_format=_schema({"$ref": "#"}))),
    Case("schema with a wrong type", chat(response_format=_schema({"type": "strnig"}))),
    Case(
        "schema with a vast length",  # legal: the answer ends where `max_tokens` says
        chat(response_format=_schema({"type": "string", "minLength": 10**9}), max_tokens=4),
        None,
    ),
    Case("regex (a+)+", _guided(regex="(a+)+$" * 30)),
    Case("regex of vast repetition", _guided(regex="(((a{1000}){1000}){1000})")),
    Case("regex with an open group", _guided(regex="((((")),
    Case("regex with a look-behind", _guided(regex="(?<=a)b")),
    Case("regex with a back reference", _guided(regex=r"(a)\1")),
    Case("grammar that is none", _guided(grammar="::= ::=")),
    Case("grammar that only recurses", _guided(grammar="start: start")),
]
PARAMETERS = [*NUMBERS, *TEXTS, *JSON, *FORMS]
