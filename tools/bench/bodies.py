"""Endless streams of unique requests: what a load that is limited by time sends."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Any

import orjson
import pybase64

from tools.bench.pictures import photograph_jpeg
from tools.bench.workloads import HEAD, LONG, SHORT

SHOTS = 8  # different photographs; bytes after the end of each make every request's image unique
TAIL_BYTES = 6
PLACE = "PLACE"  # in the body, where the image's base64 text goes
USAGE = {"stream": True, "stream_options": {"include_usage": True}}

Requests = Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: its title, the tokens of each answer, and the size of its image, if it has one."""

    title: str
    tokens: int
    size: tuple[int, int] | None = None


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "text": Kind("text", LONG),
        "336": Kind("336-px JPEGs", SHORT, (336, 336)),
        "12mp": Kind("12-megapixel JPEGs", SHORT, (4000, 3000)),
    }
)


def endless(kind: Kind, model: str, head: str = HEAD) -> Requests:
    """Yield streamed chat requests of `kind`, no two of which are the same."""
    return _texts(kind, model, head) if kind.size is None else _pictures(kind, model, head)


def _texts(kind: Kind, model: str, head: str) -> Requests:
    for number in count():
        body = orjson.dumps(
            _chat(model, f"This is text {number}. Please tell me what you can do.", kind.tokens)
        )
        yield head.format(len(body)).encode() + body


def _pictures(kind: Kind, model: str, head: str) -> Requests:
    assert kind.size is not None
    images = [_encoded(photograph_jpeg(f"curve {shot}", *kind.size).data) for shot in range(SHOTS)]
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{PLACE}"}},
        {"type": "text", "text": "What is in the picture?"},
    ]
    before, _, after = orjson.dumps(_chat(model, parts, kind.tokens)).partition(PLACE.encode())
    for number in count():
        image, tail = images[number % SHOTS], pybase64.b64encode(number.to_bytes(TAIL_BYTES))
        length = len(before) + len(image) + len(tail) + len(after)
        yield b"".join((head.format(length).encode(), before, image, tail, after))


def _encoded(data: bytes) -> bytes:
    """Return `data` in base64, with zeros after its end so that more can follow."""
    return pybase64.b64encode(data + bytes(-len(data) % 3))


def _chat(model: str, content: Any, tokens: int) -> dict[str, Any]:
    # As in `workloads`: every answer has the same number of tokens, on every server.
    fixed = {"max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True, "temperature": 0}
    return {"model": model, "messages": [{"role": "user", "content": content}]} | fixed | USAGE
