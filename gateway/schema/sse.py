"""Server-sent events of a streamed answer, as bytes. Format: https://html.spec.whatwg.org/#server-sent-events."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson

from gateway.schema.chat_answer import CallPiece, Chunk, FinishReason, Logprobs, Usage
from gateway.schema.completions import TextChoice
from gateway.schema.responses_answer import Event

DONE = b"data: [DONE]\n\n"

_END = b"}\n\n"
_ROLE = {"role": "assistant", "content": "", "refusal": None}


class ChunkWriter:
    """Writes the chunks of one answer. Their common parts are serialised once."""

    def __init__(
        self,
        id: str,  # noqa: A002  # OpenAI's name
        created: int,
        model: str,
        fingerprint: str,
        *,
        usage_follows: bool,
        kind: str = "chat.completion.chunk",
    ) -> None:
        common = {"id": id, "object": kind, "created": created, "model": model}
        frame = orjson.dumps(common | {"system_fingerprint": fingerprint})
        self._head = b"data: " + frame[:-1] + b',"choices":['
        # If the last chunk has the usage, OpenAI sends `"usage": null` in every chunk before it.
        self._tail = b'],"usage":null' + _END if usage_follows else b"]" + _END
        self._plain = self._head + b'{"index":0,"delta":{"content":'
        self._plain_end = b'},"logprobs":null,"finish_reason":null}' + self._tail

    def chunk(self, chunk: Chunk, usage: Usage | None = None) -> bytes:
        """Return the events for `chunk`, with the usage so far if it is given.

        As OpenAI does, the first event of a choice has only the role and the last only the finish reason:
        some clients ignore text in either, and OpenAI's own helper would count the log probabilities of the
        first twice.
        """
        if usage is None and not (
            chunk.index or chunk.opens or chunk.finish_reason or chunk.logprobs or chunk.tool_calls
        ):
            return b"".join((self._plain, orjson.dumps(chunk.content), self._plain_end))
        choices = []
        if chunk.opens:
            choices.append(_choice(chunk.index, _ROLE))
        if chunk.content or chunk.tool_calls or chunk.logprobs:
            choices.append(_choice(chunk.index, _delta(chunk), chunk.logprobs))
        if chunk.finish_reason:
            choices.append(_choice(chunk.index, {}, end=chunk.finish_reason))
        return self._events(choices, usage)

    def text(self, choice: TextChoice, usage: Usage | None = None) -> bytes:
        """Return the events for `choice`; the finish reason is a separate event after the text."""
        if not choice.finish_reason or not (choice.text or choice.logprobs):
            return self._events([choice], usage)
        end = TextChoice(choice.index, "", None, choice.finish_reason)
        return self._events([replace(choice, finish_reason=None), end], usage)

    def _events(self, choices: Iterable[Any], usage: Usage | None) -> bytes:
        tail = self._tail if usage is None else b'],"usage":' + orjson.dumps(usage) + _END
        return b"".join(self._head + orjson.dumps(choice) + tail for choice in choices)

    def usage(self, usage: Usage) -> bytes:
        """Return the event with the usage, the last of an answer."""
        return b"".join((self._head, b'],"usage":', orjson.dumps(usage), _END))


def _choice(
    index: int, delta: dict[str, Any], logprobs: Logprobs | None = None, end: FinishReason | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end}


def _delta(chunk: Chunk) -> dict[str, Any]:
    delta: dict[str, Any] = {"content": chunk.content} if chunk.content else {}
    if chunk.tool_calls:
        delta["tool_calls"] = [_call(piece) for piece in chunk.tool_calls]
    return delta


def _call(piece: CallPiece) -> dict[str, Any]:
    function = {"arguments": piece.arguments}
    if piece.name is None:
        return {"index": piece.index, "function": function}
    named = {"name": piece.name, **function}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": named}


def error(body: bytes) -> bytes:
    """Return the event that ends a failed stream; `body` has OpenAI's error object."""
    return b"data: " + body + b"\n\n"


def text_delta_head(item_id: str, output_index: int) -> bytes:
    """Return the common start of the delta events of one text."""
    kind = "response.output_text.delta"
    common = {"type": kind, "item_id": item_id, "output_index": output_index, "content_index": 0}
    return f"event: {kind}\ndata: ".encode() + orjson.dumps(common)[:-1] + b',"delta":'


def text_delta(head: bytes, text: str, sequence_number: int) -> bytes:
    """Return the delta event for `text` without log probabilities."""
    return b"".join((head, orjson.dumps(text), b',"logprobs":[],"sequence_number":%d}\n\n' % sequence_number))


def typed(event: Event) -> bytes:
    """Return an event of a response; its type is sent twice, as OpenAI does."""
    return b"".join((b"event: ", event.type.encode(), b"\ndata: ", orjson.dumps(event), b"\n\n"))
