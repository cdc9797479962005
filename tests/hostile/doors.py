"""What a door is: a request to any route, and the exact answer to it; and how its bodies are made."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.api.asking import MODEL
from tests.api.wire import CHAT, head

RESPONSES, COMPLETIONS, FILES, BATCHES = "/v1/responses", "/v1/completions", "/v1/files", "/v1/batches"
RENDER = "/v1/chat/completions/render"
HUGE = b"1" + b"0" * 30  # an integer that no 64 bits hold
INVALID, MISSING, UNKNOWN = "invalid_value", "missing_required_parameter", "unknown_parameter"
UNSUPPORTED, LONG, LARGE = "unsupported_parameter", "context_length_exceeded", "request_too_large"
PICTURE, JSON, GONE = "invalid_image", "invalid_json", "not_found"


@dataclass(frozen=True)
class Door:
    """A request, and the status and code that answer it; no code is a 200."""

    name: str
    path: str
    body: Any = field(default=b"", repr=False)  # bytes, or becomes JSON
    code: str | None = INVALID
    status: int = 400
    method: str = "POST"
    kind: str = "application/json"

    @property
    def sent(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)
        fields = (f"content-type: {self.kind}", f"content-length: {len(body)}")
        return head(self.method, self.path, "authorization: Bearer sk-secret", *fields) + body

    @property
    def outcome(self) -> tuple[int, str | None]:
        return (self.status, self.code) if self.code else (200, None)


def response(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "x", "max_output_tokens": 4, **fields}


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": "x", "max_tokens": 2, **fields}


def shown(part: dict[str, Any]) -> dict[str, Any]:
    return response(input=[{"role": "user", "content": [part]}])


def batch(**fields: Any) -> dict[str, Any]:
    return {"input_file_id": "file-x", "endpoint": CHAT, "completion_window": "24h", **fields}


def deep(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def raw(start: dict[str, Any], fields: bytes) -> bytes:
    """Return the request `start` with `fields` at its end that no JSON writer would write so."""
    return orjson.dumps(start)[:-1] + b"," + fields + b"}"


def rows_of(path: str, make: Any, rows: dict[str, tuple[dict[str, Any], str | None]]) -> list[Door]:
    return [Door(f"{path} {name}", path, make(**fields), code) for name, (fields, code) in rows.items()]
