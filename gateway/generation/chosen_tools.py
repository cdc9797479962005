"""From chat's tools on the wire to the neutral ones."""

from gateway.errors import InvalidValue
from gateway.generation.request import Tool, ToolChoice
from gateway.generation.tools import NO_ARGUMENTS
from gateway.schema.paths import short
from gateway.schema.tools import AllowedTools, ChosenFunction, FunctionTool
from gateway.schema.tools import ToolChoice as ChoiceOnWire


def read(given: list[FunctionTool] | None) -> tuple[Tool, ...]:
    """Return the tools. Raises InvalidValue where two have one name."""
    found: dict[str, Tool] = {}
    for place, tool in enumerate(given or ()):
        function, param = tool.function, f"tools[{place}].function"
        if function.name in found:
            raise InvalidValue(
                f"{param}.name: another tool is named {function.name!r}", param=f"{param}.name"
            )
        parameters = function.parameters or NO_ARGUMENTS
        found[function.name] = Tool(function.name, function.description or "", parameters, param)
    return tuple(found.values())


def choice(given: ChoiceOnWire | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """Return what the client chose of `tools`. Raises InvalidValue where there is no such tool."""
    match given:
        case None:
            return ToolChoice("auto" if tools else "none")
        case ChosenFunction():
            return ToolChoice("required", _names([(given, "tool_choice.function.name")], tools))
        case AllowedTools():
            named = [
                (one, f"tool_choice.allowed_tools.tools[{place}].function.name")
                for place, one in enumerate(given.allowed_tools.tools)
            ]
            return ToolChoice(given.allowed_tools.mode, _names(named, tools))
    if given == "required" and not tools:
        raise InvalidValue("tool_choice: `required` needs `tools`", param="tool_choice")
    return ToolChoice(given)


def _names(chosen: list[tuple[ChosenFunction, str]], tools: tuple[Tool, ...]) -> frozenset[str]:
    known = {tool.name for tool in tools}
    for one, param in chosen:
        if one.function.name not in known:
            raise InvalidValue(
                f"{param}: there is no tool named {short(one.function.name)!r} in `tools`", param=param
            )
    return frozenset(one.function.name for one, _ in chosen)
