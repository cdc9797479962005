"""From a Responses request's tools on the wire to the neutral ones."""

from collections.abc import Iterable

from gateway.errors import InvalidValue
from gateway.generation.request import Tool, ToolChoice
from gateway.generation.tools import NO_ARGUMENTS
from gateway.schema.paths import short
from gateway.schema.responses import AllowedTools, ChosenFunction, FunctionTool
from gateway.schema.responses import ToolChoice as ChoiceOnWire


def read(given: Iterable[FunctionTool]) -> tuple[Tool, ...]:
    """Return the tools. Raises InvalidValue where two have one name."""
    found: dict[str, Tool] = {}
    for place, tool in enumerate(given):
        param = f"tools[{place}]"
        if tool.name in found:
            raise InvalidValue(f"{param}.name: another tool is named {tool.name!r}", param=f"{param}.name")
        parameters = tool.parameters or NO_ARGUMENTS
        found[tool.name] = Tool(tool.name, tool.description or "", parameters, param)
    return tuple(found.values())


def choice(given: ChoiceOnWire | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """Return what the client chose of `tools`. Raises InvalidValue where there is no such tool."""
    match given:
        case None:
            return ToolChoice("auto" if tools else "none")
        case ChosenFunction():
            return ToolChoice("required", _names([(given.name, "tool_choice.name")], tools))
        case AllowedTools():
            named = [(one.name, f"tool_choice.tools[{place}].name") for place, one in enumerate(given.tools)]
            return ToolChoice(given.mode, _names(named, tools))
    if given == "required" and not tools:
        raise InvalidValue("tool_choice: `required` needs `tools`", param="tool_choice")
    return ToolChoice(given)


def _names(chosen: Iterable[tuple[str, str]], tools: tuple[Tool, ...]) -> frozenset[str]:
    known = {tool.name for tool in tools}
    names = []
    for name, param in chosen:
        if name not in known:
            raise InvalidValue(f"{param}: there is no tool named {short(name)!r} in `tools`", param=param)
        names.append(name)
    return frozenset(names)
