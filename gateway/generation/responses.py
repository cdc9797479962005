"""From a Responses request on the wire to a `GenerationRequest`, and to the response before it has output."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from gateway.engine.interface import Constraint, Sampling
from gateway.errors import InvalidValue
from gateway.generation import chosen_tools, constraint
from gateway.generation.request import (
    GenerationRequest,
    InputImage,
    InputMessage,
    ToolCall,
    as_data_url,
)
from gateway.schema.items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputFilePart,
    InputImagePart,
    InputItem,
    InputTextPart,
    MessageItem,
    OutputTextPart,
    Refusal,
)
from gateway.schema.paths import short
from gateway.schema.responses_answer import Response
from gateway.schema.responses_request import (
    LOGPROBS,
    JSONObjectFormat,
    ResponseChosenFunction,
    ResponseFunctionTool,
    ResponseJSONSchemaFormat,
    ResponseRequest,
)
from gateway.settings import History

HISTORY: Final[Mapping[str, History]] = {"auto": "keep_last", "disabled": "strict"}
_T = TypeVar("_T")
Part = InputTextPart | InputImagePart | InputFilePart | OutputTextPart | Refusal


@dataclass(frozen=True, slots=True)
class Conversation:
    """The items of earlier responses, and a request's own, none of them a reference any more."""

    earlier: Sequence[InputItem]
    own: Sequence[InputItem]


def read(
    request: ResponseRequest,
    items: Conversation,
    id: str,  # noqa: A002  # the wire's word
    caller: str,
) -> GenerationRequest:
    """Return what `request` asks for in the conversation `items`, which has its own input at the end.

    Raises InvalidValue.
    """
    messages = tuple(_messages(request.instructions, items))
    if not messages:
        raise InvalidValue("input: at least 1 message is required; got only reasoning items", param="input")
    tools = chosen_tools.of_response(request.tools)
    one_alone = isinstance(request.tool_choice, ResponseChosenFunction)
    return GenerationRequest(
        id=id,
        model=request.model or "",
        ignored=request.ignored,
        messages=messages,
        caller=caller,
        sampling=_sampling(request),
        stream=bool(request.stream),
        image_fit=request.image_fit,
        image_history=request.image_history or HISTORY.get(request.truncation or ""),
        image_place=request.image_place,
        drop_turns=request.truncation == "auto",
        continued=bool(request.continue_final_message),
        param="input",
        constraint=_constraint(request),
        tools=tools,
        tool_choice=chosen_tools.response_choice(request.tool_choice, tools),
        parallel_tool_calls=bool(request.parallel_tool_calls) and not one_alone,
    )


def _constraint(request: ResponseRequest) -> Constraint | None:
    """Return the form that the answer must have. Raises InvalidValue."""
    match request.text.format if request.text else None:
        case JSONObjectFormat():
            return constraint.json_object("text.format")
        case ResponseJSONSchemaFormat() as chosen:
            return constraint.json_schema(chosen.json_schema, "text.format.schema")
    return None


def _sampling(request: ResponseRequest) -> dict[str, Any]:
    given = request.given_drawing()
    if request.max_output_tokens is not None:
        given["max_output_tokens"] = request.max_output_tokens
    if LOGPROBS in (request.include or ()):
        given["logprobs"] = True
    elif request.top_logprobs:
        raise InvalidValue(f"top_logprobs: it needs {LOGPROBS!r} in `include`", param="top_logprobs")
    return given


def _messages(instructions: str | None, items: Conversation) -> list[InputMessage]:
    messages = []
    if instructions:
        messages.append(InputMessage("system", (instructions,), "instructions"))
    called: set[str] = set()
    calls: dict[int, list[ToolCall]] = {}  # by the place of the assistant's message that has them
    for place, item in enumerate((*items.earlier, *items.own), -len(items.earlier)):
        param = f"input[{place}]" if place >= 0 else "previous_response_id"
        match item:
            case MessageItem():
                role = "system" if item.role == "developer" else item.role
                messages.append(InputMessage(role, _parts(item.content, f"{param}.content"), param))
            case FunctionCallItem():
                called.add(item.call_id)
                # One turn may have text and several calls.
                if not messages or messages[-1].role != "assistant":
                    messages.append(InputMessage("assistant", (), param))
                call = ToolCall(item.call_id, item.name, item.arguments)
                calls.setdefault(len(messages) - 1, []).append(call)
            case FunctionCallOutputItem():
                _check_called(item.call_id, called, f"{param}.call_id")
                parts = _parts(item.output, f"{param}.output")
                messages.append(InputMessage("tool", parts, param, tool_call_id=item.call_id))
    for at, made in calls.items():
        messages[at] = replace(messages[at], tool_calls=tuple(made))
    return messages


def _check_called(call_id: str, called: set[str], param: str) -> None:
    if call_id not in called:
        raise InvalidValue(
            f"{param}: no tool call found for function call output with call_id {short(call_id)!r}; "
            "it must come before its output, in `input` or through `previous_response_id`",
            param=param,
        )


def _parts(parts: Sequence[Part], param: str) -> tuple[str | InputImage, ...]:
    return tuple(_part(part, f"{param}[{place}]") for place, part in enumerate(parts))


def _part(part: Part, param: str) -> str | InputImage:
    match part:
        case InputFilePart():
            return _file(part, param)
        case InputImagePart() if part.file_id is not None:
            return InputImage("", f"{param}.file_id", part.file_id)
        case InputImagePart():
            return InputImage(part.image_url or "", f"{param}.image_url")
        case Refusal():
            return part.refusal
        case _:
            return part.text


def _file(file: InputFilePart, param: str) -> InputImage:
    if file.file_id is not None:
        return InputImage("", f"{param}.file_id", file.file_id)
    if file.file_url is not None:
        return InputImage(file.file_url, f"{param}.file_url")
    return InputImage(as_data_url(file.file_data or ""), f"{param}.file_data")


def started(
    request: ResponseRequest,
    id: str,  # noqa: A002  # the wire's word
    now: int,
    model: str,
    sampling: Sampling,
    *,
    stored: bool,
) -> Response:
    """Return the response as it is sent before it has output; `now` is in Unix seconds."""
    return Response(
        id=id,
        created_at=now,
        frequency_penalty=sampling.frequency_penalty,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        model=model,
        parallel_tool_calls=bool(request.parallel_tool_calls),
        presence_penalty=sampling.presence_penalty,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        safety_identifier=request.safety_identifier,
        store=stored,
        temperature=_or(request.temperature, sampling.temperature),
        text={"format": _format(request), "verbosity": "medium"},
        tool_choice=_tool_choice(request),
        tools=[_tool(tool) for tool in request.tools or ()],
        top_logprobs=_or(request.top_logprobs, 0),
        top_p=_or(request.top_p, sampling.top_p),
        truncation=_or(request.truncation, "disabled"),
        user=request.user,
        metadata=request.metadata or {},
    )


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _format(request: ResponseRequest) -> dict[str, Any]:
    chosen = request.text.format if request.text else None
    if chosen is None:
        return {"type": "text"}
    fields = chosen.model_dump(by_alias=True)
    return fields | {"strict": bool(fields["strict"])} if "strict" in fields else fields


def _tool(tool: ResponseFunctionTool) -> dict[str, Any]:
    return tool.model_dump() | {"strict": tool.strict is not False}


def _tool_choice(request: ResponseRequest) -> Any:
    choice = request.tool_choice or "auto"
    return choice if isinstance(choice, str) else choice.model_dump()
