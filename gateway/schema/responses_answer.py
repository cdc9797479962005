"""The answer of `POST /v1/responses`: the response, its items, and the events of a stream.

The order of the keys is OpenAI's. Its API description requires all of them, even if null.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.schema.chat_answer import AnswerLogprob

ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputText:
    type: Literal["output_text"] = "output_text"
    annotations: list[None] = field(default_factory=list)
    logprobs: list[AnswerLogprob] = field(default_factory=list)
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputMessage:
    id: str
    type: Literal["message"] = "message"
    status: ResponseStatus = "in_progress"
    content: list[OutputText] = field(default_factory=list)
    role: Literal["assistant"] = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCall:
    id: str
    type: Literal["function_call"] = "function_call"
    status: ResponseStatus = "in_progress"
    arguments: str = ""
    call_id: str
    name: str


OutputItem = OutputMessage | FunctionCall


@dataclass(frozen=True, slots=True)
class InputTokensDetails:
    cached_tokens: int
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class OutputTokensDetails:
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ResponseUsage:
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


@dataclass(frozen=True, slots=True)
class TimedResponseUsage(ResponseUsage):
    """The gateway's extension: the time of each step of the request, in milliseconds."""

    timing: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class IncompleteDetails:
    reason: Literal["max_output_tokens"]


@dataclass(frozen=True, slots=True)
class ResponseError:
    """The error of a failed response; `code` is one of OpenAI's for it."""

    code: Literal["server_error"]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus = "in_progress"
    background: Literal[False] = False
    completed_at: int | None = None
    error: ResponseError | None = None
    frequency_penalty: float
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None = None
    model: str
    output: list[OutputItem] = field(default_factory=list)
    parallel_tool_calls: bool
    presence_penalty: float
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Mapping[str, None] = field(default_factory=lambda: {"effort": None, "summary": None})
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float
    text: Mapping[str, Any]
    tool_choice: Any
    tools: list[Any]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None = None
    user: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResponseEvent:
    """An event with the full response, at the start or end of the stream."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    sequence_number: int
    response: Response


@dataclass(frozen=True, slots=True)
class ItemEvent:
    type: Literal["response.output_item.added", "response.output_item.done"]
    sequence_number: int
    output_index: int
    item: OutputItem


PartKind = Literal["response.content_part.added", "response.content_part.done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEvent:
    type: PartKind
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int = 0
    part: OutputText


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int = 0
    delta: str
    logprobs: list[AnswerLogprob]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDone:
    type: Literal["response.output_text.done"] = "response.output_text.done"
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int = 0
    text: str
    logprobs: list[AnswerLogprob]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentsDelta:
    type: Literal["response.function_call_arguments.delta"] = "response.function_call_arguments.delta"
    sequence_number: int
    item_id: str
    output_index: int
    delta: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentsDone:
    type: Literal["response.function_call_arguments.done"] = "response.function_call_arguments.done"
    sequence_number: int
    item_id: str
    output_index: int
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent:
    """An error event, with the flat keys that OpenAI documents and the `error` that its SDKs read."""

    type: Literal["error"] = "error"
    sequence_number: int
    code: str
    message: str
    param: str | None
    error: Mapping[str, str | None]


Event = (
    ResponseEvent | ItemEvent | PartEvent | TextDelta | TextDone | ArgumentsDelta | ArgumentsDone | ErrorEvent
)
