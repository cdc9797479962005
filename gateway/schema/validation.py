"""Parses a body as a request, and converts pydantic's errors to OpenAI's."""

import re
from json import detect_encoding
from math import isinf
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from gateway.errors import (
    InvalidJSON,
    InvalidValue,
    MissingParameter,
    RequestError,
    UnknownParameter,
    UnsupportedParameter,
)
from gateway.schema.paths import path, short
from gateway.schema.wire import LARGEST_INTEGER, Body

MOST_VALUES = 250_000  # more than a text that fits into the context can have, even if it were all commas
MANY_VALUES = 2000  # validating more takes milliseconds
BRANCH = re.compile(r"<[a-z_]*>")  # a tag of `wire.branch`

B = TypeVar("B", bound=Body)


def parse(body: bytes, kind: type[B]) -> B:
    """Return the request in `body`. Raises RequestError, which names the first field that is wrong."""
    return checked(json_object(body), kind)


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`. Raises InvalidJSON."""
    check_values(body)
    try:
        # pydantic's parser is ten times faster than orjson with the long base64 strings of images.
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidJSON(_encoding_error(body) or f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidJSON(f"the body is a JSON {_json_name(content)}; it must be an object")
    return content


def _encoding_error(body: bytes) -> str | None:
    """Return the error in the encoding of `body`, or None; JSON is UTF-8 (RFC 8259, 8.1)."""
    coding = detect_encoding(body)  # by the first bytes
    if not coding.startswith("utf-8"):
        return f"the body must be JSON in UTF-8; got {coding[:6].upper()}"
    try:
        body.decode()
    except UnicodeDecodeError as error:
        got = f"byte 0x{body[error.start]:02x} at position {error.start}"
        return f"the body must be JSON in UTF-8; got {got}: {error.reason}"
    return None


def checked(content: dict[str, Any], kind: type[B]) -> B:
    """Return `content` as a request. Raises RequestError, which names the first field that is wrong."""
    try:
        return kind.read(content)
    except ValidationError as error:
        raise _first(error) from None


def has_many_values(body: bytes) -> bool:
    """Return whether the JSON in `body` may have so many values that validating them takes long."""
    return _has_more_marks(body, MANY_VALUES)


def check_values(body: bytes) -> None:
    """Raise InvalidValue if the unparsed `body` may have too many values."""
    # Three bytes of JSON can become an object of 70 bytes: a large body could take gigabytes when parsed.
    if _has_more_marks(body, MOST_VALUES):
        raise InvalidValue(f"the body has over {MOST_VALUES} commas and brackets; the limit is {MOST_VALUES}")


def _has_more_marks(body: bytes, most: int) -> bool:
    if len(body) <= most:
        return False
    marks = 0
    for mark in (b",", b"[", b"{"):
        # In the long base64 strings of images, which have none, `find` is many times faster than `count`.
        at = body.find(mark)
        while at >= 0:
            marks += 1
            if marks > most:
                return True
            at = body.find(mark, at + 1)
    return False


def _first(error: ValidationError) -> RequestError:
    found = error.errors(include_url=False)[0]
    *steps, last = found["loc"] or ("",)
    steps = [step for step in steps if not _is_branch(step)]
    # If a field is unknown, a last step that looks like a tag is a name that the client sent.
    if found["type"] == "extra_forbidden" or not _is_branch(last):
        steps.append(last)
    param = path(tuple(steps))
    match found["type"]:
        case "missing":
            return MissingParameter(f"{param}: this field is required", param=param)
        case "extra_forbidden":
            return UnknownParameter(f"{param}: there is no such parameter", param=param)
        case "union_tag_invalid":
            return _bad_part(found, param)
        case "literal_error" if param.endswith(".role") and found["input"] == "function":
            return UnsupportedParameter(f"{param}: use role `tool`, with `tools`", param=param)
    where = f"{param}: " if param else ""
    return InvalidValue(f"{where}{_sentence(found)}; got {_shown(found['input'])}", param=param or None)


def _is_branch(step: int | str) -> bool:
    return isinstance(step, str) and BRANCH.fullmatch(step) is not None


def _bad_part(found: ErrorDetails, param: str) -> RequestError:
    part = found["input"]
    kinds = _alternatives(found["ctx"]["expected_tags"])
    if not isinstance(part, dict):
        return InvalidValue(f"{param}: a part must be an object; got {_shown(part)}", param=param)
    param = f"{param}.type"
    if "type" not in part:
        return MissingParameter(f"{param}: this field is required; expected {kinds}", param=param)
    got = _shown(part["type"])
    return UnsupportedParameter(f"{param}: a part must be {kinds}; got {got}", param=param)


def _alternatives(expected_tags: str) -> str:
    """Return pydantic's `'<text>', '<image_url>'` as "`text` or `image_url`"."""
    *most, last = (f"`{tag}`" for tag in re.findall(r"<([a-z_]+)>", expected_tags))
    return f"{', '.join(most)} or {last}"


def _sentence(found: ErrorDetails) -> str:
    if found["type"] in ("model_type", "dict_type"):
        return "input should be an object"
    if found["type"] == "too_short":
        return f"must have at least {found['ctx']['min_length']}"
    message = found["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {len(value)} field{'s' * (len(value) != 1)}"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, int) and not -(2**63) <= value <= LARGEST_INTEGER:
        return "an integer of more than 64 bits"
    if isinstance(value, float) and isinf(value):
        return "a number too large for a double"
    return f'"{short(value)}"' if isinstance(value, str) else orjson.dumps(value).decode()


def _json_name(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}[type(value)]
