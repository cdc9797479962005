"""From the tools on the wire, chat's and Responses', to the neutral ones."""

from collections.abc import Iterable

from gateway.errors import InvalidValue
from gateway.generation.request import Tool, ToolChoice
from gateway.generation.tools import NO_ARGUMENTS
from gateway.schema import responses_request as responses_wire
from gateway.schema import tools as chat_wire
from gateway.schema.paths import short

Mode = chat_wire.Mode


def of_chat(given: list[chat_wire.FunctionTool] | None) -> tuple[Tool, ...]:
    """Return a chat's tools. Raises InvalidValue where two have one name."""
    return _tools((tool.function, f"tools[{place}].function") for place, tool in enumerate(given or ()))


def of_response(given: list[responses_wire.ResponseFunctionTool] | None) -> tuple[Tool, ...]:
    """Return the tools of a Responses request. Raises InvalidValue where two have one name."""
    return _tools((tool, f"tools[{place}]") for place, tool in enumerate(given or ()))


def chat_choice(given: chat_wire.ToolChoice | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """Return what the client chose of `tools`. Raises InvalidValue where there is no such tool."""
    match given:
        case chat_wire.ChosenFunction():
            return _named("required", [(given.function.name, "tool_choice.function.name")], tools)
        case chat_wire.AllowedTools():
            param = "tool_choice.allowed_tools.tools"
            allowed = given.allowed_tools
            names = [
                (one.function.name, f"{param}[{place}].function.name")
                for place, one in enumerate(allowed.tools)
            ]
            return _named(allowed.mode, names, tools)
    return _unnamed(given, tools)


def response_choice(given: responses_wire.ResponseToolChoice | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """Return what the client chose of `tools`. Raises InvalidValue where there is no such tool."""
    match given:
        case responses_wire.ResponseChosenFunction():
            return _named("required", [(given.name, "tool_choice.name")], tools)
        case responses_wire.ResponseAllowedTools():
            names = [(one.name, f"tool_choice.tools[{place}].name") for place, one in enumerate(given.tools)]
            return _named(given.mode, names, tools)
    return _unnamed(given, tools)


def _tools(
    given: Iterable[tuple[chat_wire.Function | responses_wire.ResponseFunctionTool, str]],
) -> tuple[Tool, ...]:
    found: dict[str, Tool] = {}
    for function, param in given:
        if function.name in found:
            raise InvalidValue(
                f"{param}.name: another tool is named {function.name!r}", param=f"{param}.name"
            )
        parameters = function.parameters or NO_ARGUMENTS
        found[function.name] = Tool(function.name, function.description or "", parameters, param)
    return tuple(found.values())


def _unnamed(mode: Mode | None, tools: tuple[Tool, ...]) -> ToolChoice:
    if mode is None:
        return ToolChoice("auto" if tools else "none")
    if mode == "required" and not tools:
        raise InvalidValue("tool_choice: `required` needs `tools`", param="tool_choice")
    return ToolChoice(mode)


def _named(mode: Mode, names: list[tuple[str, str]], tools: tuple[Tool, ...]) -> ToolChoice:
    known = {tool.name for tool in tools}
    for name, param in names:
        if name not in known:
            raise InvalidValue(f"{param}: there is no tool named {short(name)!r} in `tools`", param=param)
    return ToolChoice(mode, frozenset(name for name, _ in names))
