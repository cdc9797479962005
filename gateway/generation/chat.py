"""From a chat request on the wire to a `GenerationRequest`."""

from gateway.generation.request import GenerationRequest, InputImage, InputMessage, as_data_url
from gateway.schema.chat import (
    ChatCompletionRequest,
    FileContent,
    FilePart,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    TextPart,
)


def read(chat: ChatCompletionRequest, id: str, caller: str) -> GenerationRequest:  # noqa: A002  # the wire's word
    """Return what `chat` asks for."""
    return GenerationRequest(
        id=id,
        model=chat.model,
        messages=tuple(
            _message(message, f"messages[{place}]") for place, message in enumerate(chat.messages)
        ),
        caller=caller,
        sampling=chat.given_sampling(),
        stream=bool(chat.stream),
        image_fit=chat.image_fit,
        image_history=chat.image_history,
        image_place=chat.image_place,
        continued=bool(chat.continue_final_message),
    )


def _message(message: Message, param: str) -> InputMessage:
    parts = [_part(part, f"{param}.content[{place}]") for place, part in enumerate(message.content or ())]
    if message.refusal:
        parts.append(message.refusal)
    return InputMessage("system" if message.role == "developer" else message.role, tuple(parts), param)


def _part(part: Part, param: str) -> str | InputImage:
    match part:
        case TextPart():
            return part.text
        case RefusalPart():
            return part.refusal
        case ImagePart():
            return InputImage(part.image_url.url, f"{param}.image_url.url")
        case FilePart():
            return _file(part.file, f"{param}.file")


def _file(file: FileContent, param: str) -> InputImage:
    if file.file_id is not None:
        return InputImage("", f"{param}.file_id", file.file_id)
    return InputImage(as_data_url(file.file_data or ""), f"{param}.file_data")
