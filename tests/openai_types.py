"""What OpenAI's own client says of an answer: its types, taken strictly."""

from collections.abc import Iterator
from typing import Any

import orjson
from openai import BaseModel
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

# What OpenAI sends and its client's types leave out.
UNDECLARED = frozenset(
    {
        "response.frequency_penalty",
        "response.presence_penalty",
        "response.store",
        "logprobs[].bytes",
        "top_logprobs[].bytes",
        "error",
        "usage.timing",  # the gateway's own, where asked for
    }
)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def response(content: bytes) -> Response:
    """Return the response in `content`; fail where it isn't one to the letter."""
    found = Response.model_validate_json(content, strict=True)
    _check(found, "response")
    return found


def events(stream: bytes) -> list[Any]:
    """Return the events of `stream`; fail where one isn't OpenAI's to the letter, or out of its number."""
    *found, end = stream.split(b"\n\n")
    assert end == b""
    events = []
    for number, text in enumerate(found):
        name, data = text.split(b"\n")
        content = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + content["type"].encode()
        assert content["sequence_number"] == number
        event = EVENT.validate_json(data.removeprefix(b"data: "), strict=True)
        assert event.type == content["type"]
        _check(event, "")
        events.append(event)
    return events


def _check(model: BaseModel, where: str) -> None:
    undeclared = {f"{where}.{name}".lstrip(".") for name in model.__pydantic_extra__ or ()}
    assert undeclared <= UNDECLARED, f"{type(model).__name__}: {undeclared}"
    for name, value in model:
        for inside, at in _models(value, name):
            _check(inside, at)


def _models(value: Any, at: str) -> Iterator[tuple[BaseModel, str]]:
    if isinstance(value, BaseModel):
        yield value, at
    elif isinstance(value, list):
        for item in value:
            yield from _models(item, f"{at}[]")
