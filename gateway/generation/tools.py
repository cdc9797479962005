"""Tools: how a prompt tells of them, the grammar that makes calls valid, and earlier calls as text.

LLaVA-1.5 was not trained for tools. A call is a line of its answer, `@name {"argument": value}`;
docs/tools.md shows the prompt.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from gateway.engine.interface import Constraint
from gateway.errors import InvalidValue
from gateway.generation.constraint import json_rule
from gateway.generation.request import GenerationRequest, InputMessage, Tool

MOST_CALLS = 4  # in one answer, where the client asks for `parallel_tool_calls`
NO_ARGUMENTS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}

_MAY = (
    "You can call functions. Call one only if you need it to answer: then your whole answer is one line with "
    "`@`, the function's name and its arguments as JSON. Otherwise answer in words."
)
_MUST = "Your answer is a call of a function: one line with `@`, its name and its arguments as JSON."
# Of a schema, what says nothing about the arguments to whoever reads it.
_NOISE: Final = frozenset({"title", "$schema", "$id", "additionalProperties"})


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that an answer may call, what the prompt says of them, and the form of valid calls."""

    names: tuple[str, ...]
    described: int  # how many of them the text tells of
    text: str
    constraint: Constraint


def wanted(request: GenerationRequest) -> tuple[Tool, ...]:
    """Return the tools that the client lets the model call."""
    choice = request.tool_choice
    if choice.mode == "none":
        return ()
    return tuple(tool for tool in request.tools if choice.names is None or tool.name in choice.names)


def offer(
    tools: Sequence[Tool], request: GenerationRequest, length: Callable[[str], int], room: int
) -> Offer | None:
    """Return what is offered of `tools`, where they may take `room` tokens of the prompt; None if nothing is.

    Where the answer may be text, a tool that has no room or a schema that is not supported is left out. Where
    it must be a call, every tool can be called, described if there is room. Raises InvalidValue for a schema.
    """
    must = request.tool_choice.mode == "required"
    lines = [_MUST if must else _MAY]
    room -= length(lines[0])
    rules: dict[str, str] = {}
    for tool in tools:
        try:
            rule = json_rule({**tool.parameters, "type": "object"}, f"{tool.param}.parameters")
        except InvalidValue:
            if must:
                raise
            continue
        line = _line(tool)
        cost = length(line)
        fits = cost <= room
        if fits:
            lines.append(line)
            room -= cost
        if fits or must:
            rules[tool.name] = rule
    if not rules:
        return None
    most = MOST_CALLS if request.parallel_tool_calls else 1
    grammar = _grammar(rules, most, must=must)
    return Offer(tuple(rules), len(lines) - 1, "\n".join(lines), Constraint(grammar, "tools"))


def as_text(messages: Iterable[InputMessage]) -> tuple[InputMessage, ...]:
    """Return the conversation with calls as lines of the assistant, and their results as the user's text."""
    names: dict[str, str] = {}
    converted = []
    for message in messages:
        if message.tool_calls:
            names |= {call.id: call.name for call in message.tool_calls}
            calls = (call_line(call.name, call.arguments) for call in message.tool_calls)
            converted.append(replace(message, parts=(*message.parts, *calls), tool_calls=()))
        elif message.role == "tool":
            name = names.get(message.tool_call_id or "")
            head = f"Result of {name}:" if name else "Result:"
            converted.append(replace(message, role="user", parts=(head, *message.parts)))
        else:
            converted.append(message)
    return tuple(converted)


def call_line(name: str, arguments: str) -> str:
    """Return a call as it stands in an answer; `arguments` is JSON text."""
    return f"@{name} {arguments}"


def call_start(name: str) -> str:
    """Return how a call of the function begins in an answer, up to where its arguments do."""
    return f"@{name} {{"


def _line(tool: Tool) -> str:
    about = f": {' '.join(tool.description.split())}" if tool.description else ""
    return f"{call_line(tool.name, _outline(tool.parameters))}{about}"


def _outline(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        properties = {}
    listed = schema.get("required")
    required = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
    optional = [name for name in properties if name not in required]
    outlined = {name: _short_schema(inner) for name, inner in properties.items()}
    written = orjson.dumps(outlined).decode()
    return f"{written} (optional: {', '.join(optional)})" if optional else written


def _short_schema(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if name not in _NOISE}
    return kept["type"] if kept.keys() == {"type"} else kept


def _grammar(rules: Mapping[str, str], most: int, *, must: bool) -> str:
    """Return the grammar of an answer with one to `most` calls, or of words where there need be none.

    The engine's lexer takes the longest match, so the words must stop to match where a call is certain: after
    the space, the name and the space, which are one lexeme.
    """
    places = range(len(rules))
    more = f' ("\\n" next){{0,{most - 1}}}' if most > 1 else ""
    lines = [
        "start: calls" if must else "start: words | calls",
        f"calls: first{more}",
        f"first: {' | '.join(f'first_{place}' for place in places)}",
        f"next: {' | '.join(f'next_{place}' for place in places)}" if more else "",
    ]
    for place, (name, rule) in enumerate(rules.items()):
        lines.append(f'first_{place}: " @{name} " arguments_{place}')
        lines.append(f'next_{place}: "@{name} " arguments_{place}' if more else "")
        lines.append(f"arguments_{place}: {rule}")
    if not must:
        lines += ["words: WORDS", rf"WORDS: /(?s:.*)/ & ~/ ?@({'|'.join(rules)}) (?s:.*)/"]
    return "\n".join(line for line in lines if line)
