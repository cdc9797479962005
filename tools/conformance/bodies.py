"""Every JSON body and every event that a test sees, held against OpenAI's types and description.

The types are the `openai` package's, taken strictly: no other type, and no field that they do not declare but
those named here.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson
from openai import BaseModel
from openai.types import Batch, Completion, FileDeleted, FileObject, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

from tests import openai_types
from tools.conformance.openai_description import complaints

# By method and path: the package's type, the description's schema, and both of a stream's events.
CHAT: Final = re.compile(r"POST /v1/chat/completions")
COMPLETIONS: Final = re.compile(r"POST /v1/completions")
RESPONSES: Final = re.compile(r"(POST /v1/responses|GET /v1/responses/[^/]+)")
KINDS: Final[list[tuple[re.Pattern[str], type[BaseModel] | None, str | None]]] = [
    (CHAT, ChatCompletion, "CreateChatCompletionResponse"),
    (COMPLETIONS, Completion, "CreateCompletionResponse"),
    (re.compile(r"GET /v1/models"), None, "ListModelsResponse"),
    (re.compile(r"GET /v1/models/.+"), Model, "Model"),
    (re.compile(r"(POST /v1/files|GET /v1/files/[^/]+)"), FileObject, "OpenAIFile"),
    (re.compile(r"GET /v1/files"), None, "ListFilesResponse"),
    (re.compile(r"DELETE /v1/files/[^/]+"), FileDeleted, "DeleteFileResponse"),
    (re.compile(r"(POST /v1/batches(/[^/]+/cancel)?|GET /v1/batches/[^/]+)"), Batch, "Batch"),
    (re.compile(r"GET /v1/batches"), None, "ListBatchesResponse"),
]

# Objects in which OpenAI's API sends null where its description has a field that may be missing.
WITH_NULLS: Final = frozenset({"batch", "file"})

# What the description says otherwise than OpenAI's API does, and how the API does it.
EXCUSED: Final = (
    r"List(Files|Batches)Response: (first|last)_id: None is not of type 'string'",  # of an empty list
    r"OpenAIFile: purpose: 'user_data' is not one of",  # the description is older
    r"ListFilesResponse: data\.\d+\.purpose: 'user_data' is not one of",
)

# Fields that the types do not declare: vLLM's, and the gateway's own.
UNDECLARED: Final = frozenset({"dropped_images", "gateway", "max_model_len", "root", "timing"})


def check(request: str, status: int, content_type: str, content: bytes) -> list[str]:
    """Return what is wrong with an answer to `request`, its method and path ("GET /v1/models")."""
    if content_type.startswith("text/event-stream"):
        return _check_events(request, content)
    if not content_type.startswith("application/json") or not content:
        return []
    body = orjson.loads(content)
    if status >= 400:  # an error
        # Health tells a state and no error.
        return [] if request.startswith("GET /health") else complaints(body, "ErrorResponse")
    if RESPONSES.fullmatch(request):
        return _caught(openai_types.response, content)
    for pattern, kind, schema in KINDS:
        if pattern.fullmatch(request):
            body = _as_described(_without_nulls(body))
            found = [text for text in complaints(body, schema) if not _excused(text)] if schema else []
            return found + (_typed(kind, orjson.dumps(body)) if kind else [])
    return []


def _check_events(request: str, content: bytes) -> list[str]:
    if RESPONSES.fullmatch(request):
        return _caught(openai_types.events, content)
    found: list[str] = []
    *events, end = content.split(b"\n\n")
    if end or not all(event.startswith(b"data: ") for event in events):
        return [f"{request}: not a stream of data events: {content[-200:]!r}"]
    for event in events:
        data = event.removeprefix(b"data: ")
        if data != b"[DONE]":
            found += _check_event(request, orjson.loads(data))
    return found


def _check_event(request: str, chunk: dict[str, Any]) -> list[str]:
    if "error" in chunk:
        return complaints(chunk, "ErrorResponse")
    if CHAT.fullmatch(request):
        found = complaints(chunk, "CreateChatCompletionStreamResponse")
        return found + _typed(ChatCompletionChunk, orjson.dumps(chunk))
    for choice in chunk["choices"]:
        # OpenAI describes a completion's chunks as whole completions, and sends null until the end.
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    if chunk.get("usage", 0) is None:
        del chunk["usage"]
    return complaints(_as_described(chunk), "CreateCompletionResponse") + _typed(
        Completion, orjson.dumps(_as_described(chunk))
    )


def _excused(complaint: str) -> bool:
    return any(re.match(pattern, complaint) for pattern in EXCUSED)


def _without_nulls(body: Any) -> Any:
    if isinstance(body, list):
        return [_without_nulls(each) for each in body]
    if not isinstance(body, dict):
        return body
    if "data" in body:
        return {**body, "data": _without_nulls(body["data"])}
    if body.get("object") not in WITH_NULLS:
        return body
    return {name: value for name, value in body.items() if value is not None}


def _as_described(body: Any) -> Any:
    """Return `body` without what OpenAI sends too and does not describe: the first token's null logprobs."""
    if body.get("object") != "text_completion":
        return body
    for choice in body["choices"]:
        for name in ("token_logprobs", "top_logprobs"):
            values = (choice["logprobs"] or {}).get(name)
            if values and values[0] is None:
                del values[0]
    # A fingerprint and a choice's log probabilities may be missing there, not null.
    return {name: value for name, value in body.items() if value is not None}


def _typed(kind: type[BaseModel], content: bytes) -> list[str]:
    try:
        found = kind.model_validate_json(content, strict=True)
    except ValidationError as error:
        return [f"{kind.__name__}: {error}"]
    extra = set(_undeclared(found)) - UNDECLARED
    return [f"{kind.__name__}: undeclared {sorted(extra)}"] if extra else []


def _undeclared(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from value.__pydantic_extra__ or ()
        for _, inside in value:
            yield from _undeclared(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _undeclared(inside)


def _caught(check: Any, content: bytes) -> list[str]:
    try:
        check(content)
    except (AssertionError, ValidationError) as error:
        return [f"{error}"]
    return []
