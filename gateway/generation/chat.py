"""From a chat request on the wire to a `GenerationRequest`."""

from gateway.generation import chosen_tools, formats
from gateway.generation.request import GenerationRequest, InputImage, InputMessage, ToolCall, as_data_url
from gateway.schema.chat_request import ChatCompletionRequest, ChatMessage
from gateway.schema.parts import (
    BareURL,
    FilePart,
    ImageBlock,
    ImagePart,
    ImageSource,
    Part,
    RefusalPart,
    Resource,
    ResourceBlock,
    TextPart,
)
from gateway.schema.tools import ChosenFunction
from gateway.schema.wire import WireModel

URLS = ("url", "image_url")
HOLDERS = (*URLS, "file_data", "data", "base64", "blob")  # the fields that hold an image


def read(chat: ChatCompletionRequest, id: str, caller: str) -> GenerationRequest:  # noqa: A002  # the wire's word
    """Return what `chat` asks for."""
    tools = chosen_tools.of_chat(chat.tools)
    named = isinstance(chat.tool_choice, ChosenFunction)
    return GenerationRequest(
        id=id,
        model=chat.model or "",
        ignored=chat.ignored,
        messages=tuple(
            _message(message, f"messages[{place}]") for place, message in enumerate(chat.messages)
        ),
        caller=caller,
        sampling=chat.given_sampling(),
        stream=bool(chat.stream),
        image_fit=chat.image_fit,
        image_history=chat.image_history,
        image_place=chat.image_place,
        continued=_goes_on(chat),
        tools=tools,
        tool_choice=chosen_tools.chat_choice(chat.tool_choice, tools),
        parallel_tool_calls=bool(chat.parallel_tool_calls) and not named,
        constraint=formats.read(chat.response_format, chat.structured_outputs),
    )


def _goes_on(chat: ChatCompletionRequest) -> bool:
    """Tell whether the answer continues the last message.

    Open WebUI's "Continue Response" sends the reply so far as the last message and no other sign.
    """
    if chat.continue_final_message is not None or chat.add_generation_prompt is not None:
        return bool(chat.continue_final_message)
    last = chat.messages[-1]
    return last.role == "assistant" and bool(last.content) and not last.tool_calls


def _message(message: ChatMessage, param: str) -> InputMessage:
    parts = [_part(part, f"{param}.content[{place}]") for place, part in enumerate(message.content or ())]
    if message.refusal:
        parts.append(message.refusal)
    calls = tuple(
        ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
    )
    role = "system" if message.role == "developer" else message.role
    return InputMessage(role, tuple(parts), param, calls, message.tool_call_id)


def _part(part: Part, param: str) -> str | InputImage:
    match part:
        case (
            TextPart(text=str() as text)
            | RefusalPart(refusal=str() as text)
            | ResourceBlock(resource=Resource(text=str() as text))
        ):
            return text
        case ImagePart():
            return _image(part.image_url, f"{param}.image_url")
        case FilePart():
            return _image(part.file, f"{param}.file")
        case ResourceBlock():
            return _image(part.resource, f"{param}.resource")
        case ImageBlock(source=ImageSource() as source):
            return _image(source, f"{param}.source")
    return _image(part, param)


def _image(said: WireModel, param: str) -> InputImage:
    """Return the image that one of the fields of `said` holds or names."""
    if isinstance(said, BareURL):
        return InputImage(said.url, param)
    for name in HOLDERS:
        value: str | None = getattr(said, name, None)
        if value is not None:
            return InputImage(value if name in URLS else as_data_url(value), f"{param}.{name}")
    return InputImage("", f"{param}.file_id", getattr(said, "file_id", None))
