"""`/v1/batches`: OpenAI's batch object, the request that creates one, and the lines of its files."""

from codecs import BOM_UTF8
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field, StringConstraints

from gateway.errors import InvalidValue
from gateway.schema.files import ExpiresAfter
from gateway.schema.paths import short
from gateway.schema.validation import check_values
from gateway.schema.wire import Body

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
UNFINISHED: Final = ("validating", "in_progress", "finalizing", "cancelling")
WINDOW: Final = {"24h": 86_400}  # seconds
ERRORS_MAX: Final = 100  # errors of an input file that its batch lists
CUSTOM_ID_MAX: Final = 512  # characters

Key = Annotated[str, StringConstraints(max_length=64)]
Value = Annotated[str, StringConstraints(max_length=512)]


class BatchCreate(Body):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Annotated[dict[Key, Value], Field(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None


@dataclass(frozen=True, slots=True)
class LineError:
    """An error in a line of the input file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class RequestCounts:
    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch on the wire; times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = None
    errors: dict[str, Any] | None = None
    input_file_id: str
    completion_window: str
    status: BatchStatus = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = field(default_factory=RequestCounts)
    usage: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class InputLine:
    """A valid line of an input file. `request` is the body as JSON."""

    number: int
    custom_id: str
    request: bytes = field(repr=False)
    url: str = ""


def read_line(raw: bytes, number: int, endpoint: str | None = None) -> InputLine | LineError:
    """Return the parsed line `number` (from 1) of an input file, or its error.

    Without `endpoint`, each line may have its own. A byte order mark before the first line is skipped.
    """
    if number == 1:
        raw = raw.removeprefix(BOM_UTF8)
    try:
        check_values(raw)
        content = orjson.loads(raw)
        orjson.dumps(content)  # orjson reads deeper nesting than it writes
    except InvalidValue as error:
        return LineError("invalid_value", error.message.replace("the body", "this line", 1), number)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        return LineError("invalid_json_line", f"This line is not parseable as valid JSON: {error}", number)
    if not isinstance(content, dict):
        return LineError("invalid_json_line", "This line is not a JSON object.", number)
    custom_id = content.get("custom_id")
    for name, is_right, expected in (
        ("custom_id", _is_name(custom_id), f"a string of 1 to {CUSTOM_ID_MAX} characters"),
        ("method", content.get("method") == "POST", '"POST"'),
        ("url", _is_endpoint(content.get("url"), endpoint), f'the endpoint, "{endpoint or "/v1/…"}"'),
        ("body", isinstance(content.get("body"), dict), "an object"),
    ):
        if name not in content:
            return LineError("missing_required_parameter", f"{name}: this field is required", number, name)
        if not is_right:
            got = short(orjson.dumps(content[name]).decode())
            return LineError("invalid_value", f"{name}: it must be {expected}; got {got}", number, name)
    return InputLine(number, str(custom_id), orjson.dumps(content["body"]), content["url"])


def _is_endpoint(value: Any, endpoint: str | None) -> bool:
    return value == endpoint if endpoint else isinstance(value, str) and value.startswith("/v1/")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= CUSTOM_ID_MAX


def result_line(
    line_id: str, custom_id: str, *, status: int = 0, body: bytes = b"", error: dict[str, str] | None = None
) -> bytes:
    """Return a line of an output or error file: an answer with its `status`, or the error."""
    response: Any = None
    if error is None:
        response = {"status_code": status, "request_id": line_id, "body": orjson.Fragment(body)}
    line = {"id": line_id, "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(line) + b"\n"
