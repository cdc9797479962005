"""The items that the `input` of `POST /v1/responses` may contain."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from gateway.schema.wire import WireModel, branch


class InputTextPart(WireModel):
    type: Literal["input_text"]
    text: str


class InputImagePart(WireModel):
    type: Literal["input_image"]
    image_url: str | None = Field(
        default=None, description="`data:` URL in base64, or an `http:` or `https:` URL."
    )
    file_id: str | None = None

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("either `image_url` or `file_id` is required")
        return self


class InputFilePart(WireModel):
    """A file, which must be an image."""

    type: Literal["input_file"]
    file_data: str | None = Field(default=None, description="Base64, or a `data:` URL in base64.")
    file_url: str | None = Field(default=None, description="An `http:` or `https:` URL.")
    file_id: str | None = None

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if [self.file_data, self.file_url, self.file_id].count(None) != 2:  # noqa: PLR2004  # of the three
            raise ValueError("either `file_data`, `file_url` or `file_id` is required")
        return self


class OutputTextPart(WireModel):
    type: Literal["output_text"]
    text: str


class Refusal(WireModel):
    type: Literal["refusal"]
    refusal: str


InputPart = Annotated[
    Annotated[InputTextPart, Tag("<input_text>")]
    | Annotated[InputImagePart, Tag("<input_image>")]
    | Annotated[InputFilePart, Tag("<input_file>")],
    Discriminator(branch),
]
ContentPart = Annotated[
    Annotated[InputTextPart, Tag("<input_text>")]
    | Annotated[InputImagePart, Tag("<input_image>")]
    | Annotated[InputFilePart, Tag("<input_file>")]
    | Annotated[OutputTextPart, Tag("<output_text>")]
    | Annotated[Refusal, Tag("<refusal>")],
    Discriminator(branch),
]


def _content(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "input_text", "text": value}]
    if isinstance(value, list):
        return value
    raise ValueError("it must be a string or a list of parts")


class MessageItem(WireModel):
    """A message of either side. A message of an answer may be sent back unchanged."""

    role: Literal["user", "system", "developer", "assistant"]
    content: Annotated[
        Annotated[list[ContentPart], Field(fail_fast=True)],
        BeforeValidator(_content, json_schema_input_type=str | list[ContentPart]),
    ]
    type: Literal["message"] = "message"
    id: str | None = None


class FunctionCallItem(WireModel):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None


class FunctionCallOutputItem(WireModel):
    type: Literal["function_call_output"]
    call_id: str
    output: Annotated[
        Annotated[list[InputPart], Field(fail_fast=True)],
        BeforeValidator(_content, json_schema_input_type=str | list[InputPart]),
    ]
    id: str | None = None
    name: str | None = None


class ItemReference(WireModel):
    """A reference to an item of an earlier, stored response."""

    id: str
    type: Literal["item_reference"] = "item_reference"


class ReasoningItem(WireModel):
    """The reasoning of another model. It is left out of the prompt."""

    type: Literal["reasoning"]
    id: str | None = None
    content: Any = None


def _item_branch(item: Any) -> str:
    """Return the tag of the union for `item`. Without a type, it is a message, or a reference by its id."""
    if isinstance(item, Mapping) and "type" not in item:
        return "<message>" if "role" in item else "<item_reference>" if "id" in item else "<>"
    return branch(item)


InputItem = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")]
    | Annotated[ItemReference, Tag("<item_reference>")]
    | Annotated[ReasoningItem, Tag("<reasoning>")],
    Discriminator(_item_branch),
]


def _items(value: Any) -> Any:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, list):
        return value
    raise ValueError("it must be a string or a list of items")


Items = Annotated[
    Annotated[list[InputItem], Field(min_length=1, fail_fast=True)],
    BeforeValidator(_items, json_schema_input_type=str | list[InputItem]),
]
