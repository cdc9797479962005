"""OpenAI's own published OpenAPI description, as the package llm-comply carries it."""

from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from jsonschema import Draft202012Validator


def complaints(content: Any, schema: str) -> list[str]:
    """Return what is wrong with `content` by the description's schema of that name."""
    return [
        f"{schema}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in _validator(schema).iter_errors(content)
    ]


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": _schemas()}}
    )


@cache
def _schemas() -> dict[str, Any]:
    text = files("llm_comply").joinpath("specs", "openai_chat.json").read_bytes()
    found: dict[str, Any] = _modern(orjson.loads(text)["components"]["schemas"])
    return found


def _modern(schema: Any) -> Any:
    """Return a schema of OpenAPI 3.0 as one of JSON Schema, which has no `nullable`."""
    if isinstance(schema, list):
        return [_modern(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: _modern(value) for name, value in schema.items() if name != "nullable"}
    if schema.get("nullable") is True:
        return {"anyOf": [changed, {"type": "null"}]}
    return changed
