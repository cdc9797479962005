"""Items of responses as they are stored, given back to a request, and listed. Pure: no I/O."""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import orjson
from pydantic import TypeAdapter

from gateway.generation.request import as_data_url
from gateway.schema.items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputItem,
    MessageItem,
    OutputTextPart,
)
from gateway.schema.responses_answer import FunctionCall, OutputItem
from gateway.storage.stored_history import StoredItem

_ITEM: TypeAdapter[InputItem] = TypeAdapter(InputItem)
_PARTS = {"message": "content", "function_call_output": "output"}
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


def kept(own: Iterable[InputItem]) -> tuple[StoredItem, ...]:
    """Return what is stored of a request's items; what is left out of the prompt is not."""
    return tuple(_stored(item) for item in own if isinstance(item, _KEPT))


def kept_output(output: Iterable[OutputItem]) -> tuple[StoredItem, ...]:
    """Return what is stored of a response's output."""
    return tuple(_stored(_as_input(item), is_output=True) for item in output)


def restored(item: StoredItem) -> InputItem:
    """Return `item` as a request's; an image that was left out has the URL ""."""
    content = orjson.loads(item.json)
    for number, part in enumerate(content.get(_PARTS.get(content["type"], ""), ())):
        if _is_cut(part):
            part["image_url"] = item.images.get(number, "")
    return _ITEM.validate_python(content)


def listed(item: StoredItem) -> dict[str, Any]:
    """Return `item` as OpenAI lists the input of a response; an image that was left out has no URL."""
    content: dict[str, Any] = orjson.loads(item.json)
    content |= {"id": item.id, "status": "completed"}
    for number, part in enumerate(content.get(_PARTS.get(content["type"], ""), ())):
        match part["type"]:
            case "input_image":
                part |= {"detail": "auto", "image_url": item.images.get(number)}
                part.setdefault("file_id", None)
            case "output_text":
                part |= {"annotations": [], "logprobs": []}
    return content


_KEPT = (MessageItem, FunctionCallItem, FunctionCallOutputItem)


def _stored(item: InputItem, *, is_output: bool = False) -> StoredItem:
    content = item.model_dump(exclude_none=True)
    kind = content["type"]
    id_ = content.get("id") or f"{_PREFIXES[kind]}_{uuid4().hex}"
    images = {}
    for number, part in enumerate(content.get(_PARTS.get(kind, ""), ())):
        for source in ("image_url", "file_url", "file_data"):
            if source in part:
                url = part.pop(source)
                images[number] = as_data_url(url) if source == "file_data" else url
                part["type"] = "input_image"
    return StoredItem(id_, orjson.dumps(content | {"id": id_}), images, is_output)


def _is_cut(part: dict[str, Any]) -> bool:
    return part["type"] == "input_image" and "file_id" not in part


def _as_input(item: OutputItem) -> InputItem:
    if isinstance(item, FunctionCall):
        return FunctionCallItem(
            type="function_call", call_id=item.call_id, name=item.name, arguments=item.arguments, id=item.id
        )
    texts: list[Any] = [OutputTextPart(type="output_text", text=part.text) for part in item.content]
    return MessageItem(role="assistant", content=texts, id=item.id)
