"""From deltas to chunks, and from chunks to a complete reply. Pure: no I/O, no clock."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson

from gateway.engine.interface import Delta, TokenLogprob
from gateway.generation.calls import CallReader
from gateway.schema.chat_answer import (
    AnswerLogprob,
    AnswerMessage,
    AnswerToolCall,
    CalledFunction,
    CallingMessage,
    CallPiece,
    Choice,
    Chunk,
    FinishReason,
    Logprobs,
    PromptTokensDetails,
    TopLogprob,
    TrimmedPromptTokensDetails,
    Usage,
)

LEAST_LOGPROB = -9999.0


class Reply:
    """The chunks of one answer, and what it has used so far.

    LLaVA's answer follows `ASSISTANT:` after a space, which belongs to the prompt's form and not to the
    answer: a choice's first words lose it, unless they go on with a word of the client's (`blank` is false).
    """

    def __init__(self, dropped_images: int = 0, *, blank: bool = True, tools: tuple[str, ...] = ()) -> None:
        """`tools` are the tools that the answer may call."""
        self._tools = tools
        self._readers: dict[int, CallReader] = {}
        self._dropped_images = dropped_images
        self._blank = " " if blank else ""
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens = 0
        self._spoken: set[int] = set()  # choices whose first words are out
        self._opened: set[int] = set()

    def chunk(self, delta: Delta) -> Chunk | None:
        """Return what `delta` adds to its choice, or None if there is nothing to send yet."""
        self._prompt_tokens = delta.prompt_tokens
        self._cached_tokens = delta.cached_tokens
        self._completion_tokens += delta.tokens
        content = delta.text
        if content and delta.index not in self._spoken:
            self._spoken.add(delta.index)
            content = content.removeprefix(self._blank)
        if self._tools:
            return self._calling(delta, content)
        if not content and delta.finish_reason is None and not delta.logprobs:
            return None
        return self._chunk(delta, content, delta.finish_reason)

    def _calling(self, delta: Delta, content: str) -> Chunk | None:
        """Return what `delta` adds to a choice that may call tools."""
        reader = self._readers.get(delta.index)
        if reader is None:
            reader = self._readers[delta.index] = CallReader(self._tools)
        pieces = list(reader.read(content))
        calls = tuple(piece for piece in pieces if isinstance(piece, CallPiece))
        words = "".join(piece for piece in pieces if isinstance(piece, str))
        finish: FinishReason | None = delta.finish_reason
        if finish:
            words += reader.close()
            finish = "tool_calls" if finish == "stop" and reader.called else finish
        if not (words or calls or finish or delta.logprobs):
            return None
        return self._chunk(delta, words, finish, calls)

    def _chunk(
        self, delta: Delta, content: str, finish: FinishReason | None, calls: tuple[CallPiece, ...] = ()
    ) -> Chunk:
        opens = delta.index not in self._opened
        self._opened.add(delta.index)
        logprobs = Logprobs([_entry(entry) for entry in delta.logprobs]) if delta.logprobs else None
        return Chunk(delta.index, content, opens, finish, logprobs, calls)

    @property
    def usage(self) -> Usage:
        """Return the tokens used so far, as the engine counts them."""
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            total_tokens=self._prompt_tokens + self._completion_tokens,
            prompt_tokens_details=self._details(),
        )

    def _details(self) -> PromptTokensDetails:
        if self._dropped_images:
            return TrimmedPromptTokensDetails(self._cached_tokens, dropped_images=self._dropped_images)
        return PromptTokensDetails(self._cached_tokens)


def packed(chunk: Chunk) -> Chunk:
    """Return `chunk` with its log probabilities as JSON.

    A complete answer has up to 200,000: kept as objects, they take three times the memory, and written all at
    once at the end they hold up the event loop.
    """
    if chunk.logprobs is None:
        return chunk
    # orjson writes a fragment as it would have written the entry.
    entries: list[Any] = [orjson.Fragment(_dumped(entry)) for entry in chunk.logprobs.content]
    return replace(chunk, logprobs=Logprobs(entries))


def _dumped(entry: AnswerLogprob) -> bytes:
    # What orjson returns keeps the buffer that it was written into, several times as long.
    return bytes(memoryview(orjson.dumps(entry)))


def fold(chunks: Iterable[Chunk]) -> list[Choice]:
    """Return the choices that `chunks` tell, in the order of their numbers."""
    texts: dict[int, list[str]] = {}
    ends: dict[int, FinishReason] = {}
    logprobs: dict[int, list[AnswerLogprob]] = {}
    calls: dict[int, list[CallPiece]] = {}
    for chunk in chunks:
        if chunk.tool_calls:
            calls.setdefault(chunk.index, []).extend(chunk.tool_calls)
        texts.setdefault(chunk.index, []).append(chunk.content)
        if chunk.finish_reason:
            ends[chunk.index] = chunk.finish_reason
        if chunk.logprobs:
            logprobs.setdefault(chunk.index, []).extend(chunk.logprobs.content)
    return [
        Choice(
            index=index,
            message=_message("".join(texts[index]), calls.get(index)),
            finish_reason=ends[index],
            logprobs=Logprobs(logprobs[index]) if index in logprobs else None,
        )
        for index in sorted(texts)
    ]


def _message(text: str, pieces: list[CallPiece] | None) -> AnswerMessage:
    if pieces is None:
        return AnswerMessage(text)
    arguments: dict[int, str] = {}
    for piece in pieces:
        arguments[piece.index] = arguments.get(piece.index, "") + piece.arguments
    calls = [
        AnswerToolCall(piece.id, CalledFunction(piece.name, arguments[piece.index]))
        for piece in pieces
        if piece.id is not None and piece.name is not None
    ]
    return CallingMessage(text or None, tool_calls=calls)


def _entry(entry: TokenLogprob) -> AnswerLogprob:
    top = [TopLogprob(other.token, _logprob(other), list(other.raw)) for other in entry.top]
    return AnswerLogprob(entry.token, _logprob(entry), list(entry.raw), top)


def _logprob(entry: TokenLogprob) -> float:
    # JSON has no infinity; OpenAI's API reference says -9999.0 for what is very unlikely.
    return max(entry.logprob, LEAST_LOGPROB)
