"""`POST /v1/chat/completions`, the request: what a client may send, checked once."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from gateway.errors import InvalidValue, UnsupportedParameter
from gateway.schema.parameters import UNSUPPORTED, WITHOUT_EFFECT
from gateway.schema.sampling import SamplingFields
from gateway.schema.wire import Wire, branch


class TextPart(Wire):
    type: Literal["text"]
    text: str


class ImageURL(Wire):
    url: str = Field(description="`data:` URL in base64, or an `http:` or `https:` URL.")
    detail: Literal["auto", "low", "high", "original"] | None = Field(
        default=None, description="Without effect: LLaVA-1.5 sees every picture at one size."
    )


class ImagePart(Wire):
    type: Literal["image_url"]
    image_url: ImageURL


Part = Annotated[
    Annotated[TextPart, Tag("<text>")] | Annotated[ImagePart, Tag("<image_url>")],
    Discriminator(branch),
]


def _parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None or isinstance(content, list):
        return content
    raise ValueError("a message's content must be a string or a list of parts")


class Message(Wire):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[list[Part], Field(fail_fast=True)] | None,
        BeforeValidator(_parts, json_schema_input_type=str | list[Part]),
    ] = None
    name: str | None = Field(default=None, description="Without effect.")

    # What OpenAI's clients echo of an answer: there is nothing in it unless tools were used.
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    annotations: list[Any] | None = None


class StreamOptions(Wire):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = Field(default=None, description="vLLM's: usage in every chunk.")
    include_obfuscation: bool | None = Field(default=None, description="Without effect.")


class ChatCompletionRequest(SamplingFields):
    """OpenAI's request, and vLLM's sampling parameters; ranges are OpenAI's where it has the parameter."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    image_fit: Literal["pad", "crop", "squash"] | None = Field(
        default=None, description="How a picture becomes square; the profile's way where not said."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_the_unsupported(cls, body: Any) -> Any:
        if not isinstance(body, Mapping):
            return body
        kept = {}
        for name, value in body.items():
            if name in WITHOUT_EFFECT:
                continue
            if name not in UNSUPPORTED:
                kept[name] = value
            elif value is not None and not _says_nothing(value, UNSUPPORTED[name]):
                raise UnsupportedParameter(f"{name}: this parameter is not supported", param=name)
        return kept

    @model_validator(mode="after")
    def _stream_options_are_for_streams(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise InvalidValue("stream_options: they need `stream` to be true", param="stream_options")
        return self


def _says_nothing(value: Any, defaults: tuple[Any, ...]) -> bool:
    # `True == 1`: the types must agree too.
    return any(type(value) is type(default) and value == default for default in defaults)
