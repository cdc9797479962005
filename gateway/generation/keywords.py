"""Keywords of JSON schema that the engine does not know, and where they say nothing, so that they can go.

Programs that make schemas from types write many: zod's records have `propertyNames: {"type": "string"}`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

UNSUPPORTED: Final = (
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
)
_ANNOTATIONS: Final = frozenset(
    {
        "$comment",
        "default",
        "deprecated",
        "description",
        "example",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    }
)
# The formats of JSON schema. Any other is a note to the reader, by its specification: `int64`, `password`.
_FORMATS: Final = frozenset(
    {
        *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6"),
        *("iri", "iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri"),
        *("uri-reference", "uri-template", "uuid"),
    }
)
_SCHEMA: Final = re.compile(r"https?://json-schema\.org/(draft-0[467]|draft/20(19-09|20-12))/schema#?")
_ANYTHING: Final = re.compile(r"\^?\(?(\?:)?(\.|\[\\s\\S\]|\[\\S\\s\]|\[\^\])?[*]?\??\)?\$?")
_OF_STRINGS: Final = frozenset({"$dynamicRef", "$recursiveRef", "const", "enum", "if", "maxLength", "not"})
_DEEPEST, _LARGEST = 2, 12  # of schemas that are looked into: how deep, and how many words or members


def says_nothing(name: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:  # noqa: C901, PLR0911  # a table
    """Say whether `schema`, which is in `root`, means the same without the keyword `name`."""
    value = schema[name]
    match name:
        case "$dynamicAnchor" | "$recursiveAnchor":
            return True
        case "$schema":
            return not (isinstance(value, str) and _SCHEMA.fullmatch(value))
        case "format":
            return isinstance(value, str) and value not in _FORMATS
        case "uniqueItems":
            return value is False or _number(schema.get("maxItems")) <= 1
        case "unevaluatedItems" | "unevaluatedProperties":
            return value is False or _admits_everything(value)  # Objects and lists are closed anyway.
        case "not":
            return value is False
        case "propertyNames":
            return _admits_every_name(value, root, 0)
        case "contains":
            return schema.get("minContains") == 0 and "maxContains" not in schema
        case "minContains" | "maxContains":
            return "contains" not in schema or says_nothing("contains", schema, root)
        case "dependentRequired" | "dependentSchemas" | "dependencies":
            return isinstance(value, dict) and all(
                each == [] or _admits_everything(each) for each in value.values()
            )
        case "if":
            return all(_admits_everything(schema.get(branch, True)) for branch in ("then", "else"))
        case "then" | "else":
            return "if" not in schema or says_nothing("if", schema, root)
    return False


def _admits_everything(schema: Any) -> bool:
    return schema is True or (isinstance(schema, dict) and schema.keys() <= _ANNOTATIONS)


def _admits_every_name(schema: Any, root: Mapping[str, Any], depth: int) -> bool:
    """Say whether every string is of this schema; what it says of other types does not matter."""
    if not isinstance(schema, dict):
        return schema is True
    # Who refers to a large definition a thousand times must not have it read as often.
    if depth > _DEEPEST or len(schema) > _LARGEST:
        return False
    return all(_word_admits_every_name(name, value, root, depth) for name, value in schema.items())


def _word_admits_every_name(name: str, value: Any, root: Mapping[str, Any], depth: int) -> bool:  # noqa: PLR0911  # a table
    match name:
        case "type":
            return value == "string" or (isinstance(value, list) and "string" in value)
        case "pattern":
            return isinstance(value, str) and _ANYTHING.fullmatch(value) is not None
        case "minLength":
            return bool(value == 0)
        case "format":
            return value not in _FORMATS if isinstance(value, str) else False
        case "allOf" | "anyOf" | "oneOf":
            return isinstance(value, list) and _joined(name, value, root, depth)
        case "$ref":
            return _admits_every_name(_referred(value, root), root, depth + 1)
    return name not in _OF_STRINGS


def _joined(name: str, schemas: list[Any], root: Mapping[str, Any], depth: int) -> bool:
    if len(schemas) > _LARGEST:
        return False
    admit = [_admits_every_name(schema, root, depth + 1) for schema in schemas]
    return any(admit) if name == "anyOf" else all(admit) and (name == "allOf" or len(admit) == 1)


def _referred(reference: Any, root: Mapping[str, Any]) -> Any:
    """Return the definition that `reference` names, None where there is none."""
    found = (
        re.fullmatch(r"#/(\$defs|definitions)/([^/%~]+)", reference) if isinstance(reference, str) else None
    )
    named = root.get(found[1]) if found else None
    return named.get(found[2]) if found and isinstance(named, dict) else None


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else float("inf")
