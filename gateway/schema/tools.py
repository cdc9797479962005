"""Tools in chat requests: the functions, the choice among them, and the calls of earlier turns."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from gateway.errors import UnsupportedParameter
from gateway.schema.paths import short
from gateway.schema.wire import Schema, WireModel, branch

MOST_TOOLS = 128  # OpenAI's limit

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Mode = Literal["none", "auto", "required"]


class Function(WireModel):
    name: Name
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class FunctionTool(WireModel):
    type: Literal["function"]
    function: Function


def functions_only(tools: Any) -> Any:
    """Refuse a tool of another type before its content is validated, so that the error names the type."""
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            param = f"tools[{index}].type"
            raise UnsupportedParameter(
                f"{param}: tools of type `{short(kind)}` are not supported; use `function`", param=param
            )
    return tools


Tools = Annotated[
    list[FunctionTool],
    Field(max_length=MOST_TOOLS, fail_fast=True),
    BeforeValidator(functions_only, json_schema_input_type=list[FunctionTool]),
]


class NamedFunction(WireModel):
    name: str


class ChosenFunction(WireModel):
    type: Literal["function"]
    function: NamedFunction


class AllowedFunctions(WireModel):
    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenFunction], Field(min_length=1, max_length=MOST_TOOLS, fail_fast=True)]


class AllowedTools(WireModel):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedFunctions


ToolChoice = Annotated[
    Annotated[Mode, Tag("<mode>")]
    | Annotated[ChosenFunction, Tag("<function>")]
    | Annotated[AllowedTools, Tag("<allowed_tools>")],
    Discriminator(lambda choice: "<mode>" if isinstance(choice, str) else branch(choice)),
]


class ChatCalledFunction(WireModel):
    name: str
    arguments: str


class ChatToolCall(WireModel):
    """A call that the assistant made in an earlier turn."""

    id: str
    type: Literal["function"]
    function: ChatCalledFunction


ToolCalls = Annotated[
    Annotated[list[ChatToolCall], Field(max_length=MOST_TOOLS, fail_fast=True)] | None,
    # SDKs send an answer without calls back with an empty list.
    BeforeValidator(lambda calls: calls or None, json_schema_input_type=list[ChatToolCall]),
]
