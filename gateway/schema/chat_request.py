"""The request of `POST /v1/chat/completions`, validated once."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gateway.errors import InvalidValue
from gateway.schema.formats import ResponseFormat, StructuredOutputs
from gateway.schema.ledger import Ledger
from gateway.schema.parameters import CHAT
from gateway.schema.parts import Part
from gateway.schema.sampling import SamplingFields
from gateway.schema.tools import ToolCalls, ToolChoice, Tools
from gateway.schema.wire import MODEL, WireModel


def _parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None or isinstance(content, list):
        return content
    raise ValueError("a message's content must be a string or a list of parts")


class ChatMessage(WireModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        Annotated[list[Part], Field(fail_fast=True)] | None,
        BeforeValidator(_parts, json_schema_input_type=str | list[Part]),
    ] = None
    refusal: str | None = None
    tool_calls: ToolCalls = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _tools_have_their_fields(self) -> Self:
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of role `tool` needs `tool_call_id`")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant's messages have `tool_calls`")
        return self


class StreamOptions(WireModel):
    include_usage: bool | None = None
    include_timing: bool | None = Field(
        default=None, description="The gateway's: the usage, including the time of each step."
    )
    continuous_usage_stats: bool | None = Field(default=None, description="vLLM's: usage in every chunk.")

    @property
    def has_usage(self) -> bool:
        """Return whether the last chunk has the usage."""
        return bool(self.include_usage or self.include_timing)


class ChatCompletionRequest(SamplingFields):
    """OpenAI's request and vLLM's sampling parameters. Ranges are OpenAI's if it has the parameter."""

    ledger: ClassVar[Ledger] = CHAT

    model: str | None = Field(default=None, description=MODEL)
    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    continue_final_message: bool | None = Field(
        default=None, description="Continue the last message, which must be the assistant's."
    )
    add_generation_prompt: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    image_fit: Literal["pad", "crop", "squash"] | None = Field(
        default=None, description="How an image is made square. Default: the profile's."
    )

    image_place: Literal["auto", "asked"] | None = Field(
        default=None, description="Where a message's images go. Default: the profile's."
    )
    image_history: Literal["keep_last", "strict"] | None = Field(
        default=None,
        description="Whether to drop the oldest images if not all fit, or to refuse the request.",
    )

    @model_validator(mode="after")
    def _stream_options_are_for_streams(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise InvalidValue("stream_options: they need `stream` to be true", param="stream_options")
        return self

    @model_validator(mode="after")
    def _an_answer_is_new_or_continued(self) -> Self:
        continued = bool(self.continue_final_message)
        if self.add_generation_prompt is continued:
            raise InvalidValue(
                "add_generation_prompt: exactly one of this and `continue_final_message` must be true",
                param="add_generation_prompt",
            )
        return self

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        asked = self.response_format is not None and self.response_format.type != "text"
        if asked and self.structured_outputs is not None:
            raise InvalidValue(
                "structured_outputs: it cannot be used with `response_format`", param="structured_outputs"
            )
        return self
