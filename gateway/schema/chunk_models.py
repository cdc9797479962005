"""Types of a stream's events, for the API description; `sse` writes the events."""

from typing import Literal, NotRequired

from pydantic import ConfigDict
from typing_extensions import TypedDict

from gateway.schema.chat_answer import FinishReason, Logprobs, Usage
from gateway.schema.completions import TextChoice


class _Exact(TypedDict):
    """A dictionary without further keys."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's documented way


class CalledFunctionDelta(_Exact):
    arguments: str
    name: NotRequired[str]


class ToolCallDelta(_Exact):
    """A part of a call. The first one has the id, type and name."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: CalledFunctionDelta


class ChunkDelta(_Exact):
    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    refusal: NotRequired[None]
    tool_calls: NotRequired[list[ToolCallDelta]]


class ChunkChoice(_Exact):
    index: int
    delta: ChunkDelta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class _AnyChunk(_Exact):
    """`usage` is there if the request asks for it."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: NotRequired[Usage | None]


class CompletionChunk(_AnyChunk):
    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]


class TextCompletionChunk(_AnyChunk):
    object: Literal["text_completion"]
    choices: list[TextChoice]
