"""The answer of `POST /v1/chat/completions`, complete or in chunks.

OpenAI's description of its API requires the keys `message.refusal` and `choices[].logprobs`; null is fine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class TopLogprob:
    token: str
    logprob: float
    bytes: list[int]


@dataclass(frozen=True, slots=True)
class AnswerLogprob:
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


@dataclass(frozen=True, slots=True)
class Logprobs:
    content: list[AnswerLogprob]
    refusal: None = None


@dataclass(frozen=True, slots=True)
class PromptTokensDetails:
    cached_tokens: int
    audio_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TrimmedPromptTokensDetails(PromptTokensDetails):
    """The gateway's extension: the number of images dropped from the conversation, if any."""

    dropped_images: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


@dataclass(frozen=True, slots=True)
class TimedUsage(Usage):
    """The gateway's extension: the time of each step of the request, in milliseconds."""

    timing: Mapping[str, float]

    @classmethod
    def of(cls, usage: Usage, timing: Mapping[str, float]) -> "TimedUsage":
        used = {entry.name: getattr(usage, entry.name) for entry in fields(usage)}
        return cls(**used, timing=timing)


@dataclass(frozen=True, slots=True)
class CallPiece:
    """The part of a tool call that a chunk adds. The first has the id and the name, and no arguments."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """The part of a choice that a chunk adds. `opens` marks its first chunk; the role is sent before it."""

    index: int
    content: str
    opens: bool = False
    finish_reason: FinishReason | None = None
    logprobs: Logprobs | None = None
    tool_calls: tuple[CallPiece, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerMessage:
    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    annotations: list[None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CalledFunction:
    name: str
    arguments: str  # JSON text


@dataclass(frozen=True, slots=True)
class AnswerToolCall:
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


@dataclass(frozen=True, slots=True)
class CallingMessage(AnswerMessage):
    """An answer that calls tools."""

    tool_calls: list[AnswerToolCall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Choice:
    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: Logprobs | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str
    object: Literal["chat.completion"] = "chat.completion"
