"""The parts of a chat message's content: text and images, in OpenAI's forms and others that clients send.

Sources: OpenAI's API reference (`text`, `refusal`, `image_url`, `file`); its Responses API, whose parts vLLM
accepts in chats, too (`input_text`, `output_text`, `input_image`); LangChain's content blocks, of both
versions, Anthropic's, and those of the Model Context Protocol (`image`, `resource`).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from gateway.schema.items import InputImagePart
from gateway.schema.wire import WireModel, branch


class TextPart(WireModel):
    type: Literal["text", "input_text", "output_text"]
    text: str


class RefusalPart(WireModel):
    type: Literal["refusal"]
    refusal: str


class ImageURL(WireModel):
    url: str = Field(description="`data:` URL in base64, or an `http:` or `https:` URL.")


class BareURL(ImageURL):
    """A URL that the client sent without the object around it."""


def _with_url(value: Any) -> Any:
    return BareURL(url=value) if isinstance(value, str) else value


class ImagePart(WireModel):
    type: Literal["image_url"]
    image_url: Annotated[ImageURL, BeforeValidator(_with_url, json_schema_input_type=str | ImageURL)]


class _OneOf(WireModel):
    """A value that is given in one of several fields: exactly one must be set."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        names = [name for name in type(self).model_fields if name != "type"]
        if len([name for name in names if getattr(self, name) is not None]) != 1:
            raise ValueError(f"exactly one of {', '.join(f'`{name}`' for name in names)} is required")
        return self


class FileContent(_OneOf):
    """An image that was uploaded to `/v1/files`, or its bytes in base64."""

    file_id: str | None = None
    file_data: str | None = Field(default=None, description="Base64, or a `data:` URL in base64.")


class FilePart(WireModel):
    type: Literal["file"]
    file: FileContent


class ImageSource(_OneOf):
    """The source of Anthropic's image block."""

    data: str | None = Field(default=None, description="In base64.")
    url: str | None = None
    file_id: str | None = None


class ImageBlock(_OneOf):
    """LangChain's image block: `data` and `url` of version 0; `base64`, `url` and `file_id` of version 1."""

    type: Literal["image"]
    data: str | None = Field(default=None, description="In base64.")
    base64: str | None = None
    url: str | None = None
    file_id: str | None = None
    source: ImageSource | None = None


class Resource(_OneOf):
    """The content that a tool server embeds in its result."""

    text: str | None = None
    blob: str | None = Field(default=None, description="An image in base64.")


class ResourceBlock(WireModel):
    """The embedded resource of the Model Context Protocol."""

    type: Literal["resource"]
    resource: Resource


Part = Annotated[
    Annotated[TextPart, Tag("<text>")]
    | Annotated[TextPart, Tag("<input_text>")]
    | Annotated[TextPart, Tag("<output_text>")]
    | Annotated[RefusalPart, Tag("<refusal>")]
    | Annotated[ImagePart, Tag("<image_url>")]
    | Annotated[InputImagePart, Tag("<input_image>")]
    | Annotated[ImageBlock, Tag("<image>")]
    | Annotated[FilePart, Tag("<file>")]
    | Annotated[ResourceBlock, Tag("<resource>")],
    Discriminator(branch),
]
