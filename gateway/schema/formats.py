"""Structured output in chat requests: OpenAI's `response_format` and vLLM's `structured_outputs`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag, model_validator

from gateway.errors import InvalidValue
from gateway.schema.responses_request import JSONObjectFormat, TextFormat
from gateway.schema.tools import Name
from gateway.schema.wire import Schema, WireModel, branch

MOST_CHOICES = 1000


class NamedSchema(WireModel):
    name: Name
    json_schema: Schema = Field(alias="schema", default_factory=lambda: {"type": "object"})
    strict: bool | None = Field(default=None, description="Accepted; the answer always matches the schema.")


class JSONSchemaFormat(WireModel):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JSONObjectFormat, Tag("<json_object>")]
    | Annotated[JSONSchemaFormat, Tag("<json_schema>")],
    Discriminator(branch),
]


def _few(choices: Any) -> Any:
    if isinstance(choices, list) and len(choices) > MOST_CHOICES:
        raise ValueError(f"must have at most {MOST_CHOICES} choices")
    return choices


def _object_or_text(schema: Any) -> Any:
    if isinstance(schema, dict | str):
        return schema
    raise ValueError("it must be a JSON schema, as an object or a string")


class StructuredOutputs(WireModel):
    """The fields of vLLM's `StructuredOutputsParams` that a client may set; exactly one must be set."""

    json_schema: (
        Annotated[
            dict[str, Any] | str,
            PlainValidator(_object_or_text, json_schema_input_type=dict[str, Any] | str),
        ]
        | None
    ) = Field(alias="json", default=None)
    json_object: Literal[True] | None = None
    regex: Annotated[str, Field(min_length=1)] | None = None
    choice: (
        Annotated[
            list[Annotated[str, Field(min_length=1)]],
            Field(min_length=1, fail_fast=True),
            BeforeValidator(_few),
        ]
        | None
    ) = None
    grammar: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_alone(self) -> Self:
        named = (self.json_schema, self.json_object, self.regex, self.choice, self.grammar)
        count = sum(value is not None for value in named)
        if count != 1:
            raise InvalidValue(
                "structured_outputs: exactly one of `json`, `json_object`, `regex`, `choice` and `grammar` "
                f"must be set; got {count}",
                param="structured_outputs",
            )
        return self
