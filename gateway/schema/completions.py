"""Request and answer of `POST /v1/completions`, OpenAI's older API, whose prompt is used unchanged."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from gateway.errors import InvalidValue
from gateway.schema.chat_answer import FinishReason, Usage
from gateway.schema.chat_request import StreamOptions
from gateway.schema.ledger import Ledger
from gateway.schema.parameters import COMPLETIONS
from gateway.schema.sampling import DrawingFields
from gateway.schema.wire import MODEL

MOST_PROMPTS = 64
MOST_CHOICES = 128  # of all prompts together

TextOrIds = str | tuple[int, ...]


def _prompts(value: Any) -> tuple[TextOrIds, ...]:
    """Return `value` (text, token ids, or a list of either) as prompts."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise ValueError("it must be a string, a list of strings, token ids, or a list of lists of token ids")
    if _is_id(value[0]):
        return (_ids(value),)
    if len(value) > MOST_PROMPTS:
        raise ValueError(f"must have at most {MOST_PROMPTS} prompts")
    if all(isinstance(item, str) for item in value):
        return tuple(value)
    return tuple(_ids(item) for item in value)


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(map(_is_id, value)):
        raise ValueError("a prompt must be a string or a list of token ids, all prompts of one kind")
    return tuple(value)


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 0


class CompletionRequest(DrawingFields):
    """OpenAI's request and vLLM's sampling parameters."""

    ledger: ClassVar[Ledger] = COMPLETIONS

    model: str | None = Field(default=None, description=MODEL)
    prompt: Annotated[
        tuple[TextOrIds, ...],
        PlainValidator(_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ] = Field(description="Used unchanged, after one `<s>`.")
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Default: 16. 0 is allowed only with `echo`."
    )
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise InvalidValue("stream_options: they need `stream` to be true", param="stream_options")
        if self.max_tokens == 0 and not self.echo:
            raise InvalidValue("max_tokens: 0 needs `echo` to be true", param="max_tokens")
        choices = len(self.prompt) * (self.n or 1)
        if choices > MOST_CHOICES:
            raise InvalidValue(
                f"prompt: {len(self.prompt)} prompts × n={self.n or 1} is {choices} choices; "
                f"the limit is {MOST_CHOICES}",
                param="prompt",
            )
        return self

    def given_sampling(self) -> dict[str, Any]:
        """Return the sampling parameters that the client set, by the names of `SamplingFields`."""
        given = self.given_drawing()
        if self.n is not None:
            given["n"] = self.n
        if self.max_tokens is not None:
            given["max_tokens"] = max(
                self.max_tokens, 1
            )  # The engine generates at least one; it is not sent.
        if self.logprobs is not None:
            given |= {"logprobs": True, "top_logprobs": self.logprobs}
        return given


@dataclass(frozen=True, slots=True)
class TextLogprobs:
    """Lists with one entry per token. The first token of a prompt has no probability; its entry is null."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


@dataclass(frozen=True, slots=True)
class TextChoice:
    """A choice, or the part of it that a chunk adds."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class TextCompletion:
    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    system_fingerprint: str
    object: Literal["text_completion"] = "text_completion"
