"""The request of `POST /v1/responses`, validated once."""

from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from gateway.errors import InvalidValue
from gateway.schema.items import Items
from gateway.schema.ledger import Ledger
from gateway.schema.response_parameters import RESPONSES
from gateway.schema.sampling import DrawingFields
from gateway.schema.tools import MOST_TOOLS, Mode, Name, functions_only
from gateway.schema.wire import MODEL, Schema, WireModel, branch

LOGPROBS = "message.output_text.logprobs"
IMAGE_URLS = "message.input_image.image_url"

Includable = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]
INCLUDABLE: Final[tuple[str, ...]] = get_args(Includable)
MOST_METADATA = 16  # OpenAI's limit, as are those of the strings


def _few(metadata: Any) -> Any:
    # pydantic reports every wrong value before it checks their number.
    if isinstance(metadata, dict) and len(metadata) > MOST_METADATA:
        raise ValueError(f"must have at most {MOST_METADATA} pairs")
    return metadata


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    BeforeValidator(_few),
    Field(max_length=MOST_METADATA),
]


class TextFormat(WireModel):
    type: Literal["text"]


class JSONObjectFormat(WireModel):
    type: Literal["json_object"]


class ResponseJSONSchemaFormat(WireModel):
    type: Literal["json_schema"]
    name: Name
    json_schema: Schema = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


Format = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JSONObjectFormat, Tag("<json_object>")]
    | Annotated[ResponseJSONSchemaFormat, Tag("<json_schema>")],
    Discriminator(branch),
]


class TextConfig(WireModel):
    format: Format | None = None


class ResponseFunctionTool(WireModel):
    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class ResponseChosenFunction(WireModel):
    type: Literal["function"]
    name: str


class ResponseAllowedTools(WireModel):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[ResponseChosenFunction], Field(max_length=MOST_TOOLS, fail_fast=True)]


ResponseToolChoice = Annotated[
    Annotated[Mode, Tag("<mode>")]
    | Annotated[ResponseChosenFunction, Tag("<function>")]
    | Annotated[ResponseAllowedTools, Tag("<allowed_tools>")],
    Discriminator(lambda choice: "<mode>" if isinstance(choice, str) else branch(choice)),
]


ResponseTools = Annotated[
    list[ResponseFunctionTool],
    Field(max_length=MOST_TOOLS, fail_fast=True),
    BeforeValidator(functions_only, json_schema_input_type=list[ResponseFunctionTool]),
]


class ResponseStreamOptions(WireModel):
    include_timing: bool | None = Field(
        default=None, description="The gateway's: the usage includes the time of each step."
    )


class CacheOptions(WireModel):
    """Options without effect."""


class ResponseRequest(DrawingFields):
    """OpenAI's request. Parameters of chat that it lacks are accepted under chat's names."""

    ledger: ClassVar[Ledger] = RESPONSES

    model: str | None = Field(default=None, description=MODEL)
    input: Items
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    include: Annotated[list[Includable], Field(max_length=16)] | None = None
    text: TextConfig | None = None
    tools: ResponseTools | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None

    image_fit: Literal["pad", "crop", "squash"] | None = Field(
        default=None, description="How an image is made square. Default: the profile's."
    )
    image_history: Literal["keep_last", "strict"] | None = Field(
        default=None,
        description="Whether to drop the oldest images if not all fit, or to refuse the request.",
    )
    image_place: Literal["auto", "asked"] | None = Field(
        default=None, description="Whether a message's images come first, or stay in the client's order."
    )
    continue_final_message: bool | None = Field(
        default=None, description="vLLM's: continue the last message, which must be the assistant's."
    )

    @model_validator(mode="after")
    def _stream_options_are_for_streams(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise InvalidValue("stream_options: they need `stream` to be true", param="stream_options")
        return self
