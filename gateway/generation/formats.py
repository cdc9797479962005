"""From the form of an answer on the wire to the constraint on it."""

from typing import Any

from pydantic_core import from_json

from gateway.engine.interface import Constraint
from gateway.errors import InvalidValue
from gateway.generation import constraint
from gateway.schema.formats import JSONSchemaFormat, ResponseFormat, StructuredOutputs
from gateway.schema.responses_request import JSONObjectFormat
from gateway.schema.wire import writable


def read(chosen: ResponseFormat | None, structured: StructuredOutputs | None) -> Constraint | None:
    """Return the form that the answer must have, None where it is free. Raises InvalidValue."""
    if structured is not None:
        return _structured(structured)
    match chosen:
        case JSONObjectFormat():
            return constraint.json_object("response_format")
        case JSONSchemaFormat():
            return constraint.json_schema(
                chosen.json_schema.json_schema, "response_format.json_schema.schema"
            )
    return None


def _structured(asked: StructuredOutputs) -> Constraint:
    name = "structured_outputs"
    if asked.regex is not None:
        return constraint.regex(asked.regex, f"{name}.regex")
    if asked.choice is not None:
        return constraint.choice(asked.choice, f"{name}.choice")
    if asked.grammar is not None:
        return constraint.grammar(asked.grammar, f"{name}.grammar")
    if asked.json_object:
        return constraint.json_object(f"{name}.json_object")
    return constraint.json_schema(_schema(asked.json_schema), f"{name}.json")


def _schema(given: Any) -> dict[str, Any]:
    """Return the JSON schema, which vLLM also takes as a string."""
    schema, param = given, "structured_outputs.json"
    if isinstance(given, str):
        try:
            # Not orjson: what it reads may be deeper than what it writes.
            schema = from_json(given, allow_inf_nan=False)
        except ValueError as error:
            raise InvalidValue(f"{param}: it is not JSON: {error}", param=param) from None
    if not isinstance(schema, dict):
        raise InvalidValue(f"{param}: a schema must be an object", param=param)
    try:
        return writable(schema)
    except ValueError as error:
        raise InvalidValue(f"{param}: {error}", param=param) from None
