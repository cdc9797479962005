"""From a chat request on the wire to a `GenerationRequest`."""

from gateway.generation import formats
from gateway.generation.request import GenerationRequest, InputImage, InputMessage, as_data_url
from gateway.schema.chat import ChatCompletionRequest, Message
from gateway.schema.parts import FilePart, ImageBlock, ImagePart, ImageSource, Part, RefusalPart, TextPart
from gateway.schema.wire import Wire

URLS = ("url", "image_url")
HOLDERS = (*URLS, "file_data", "data", "base64")  # the fields that hold an image


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
        constraint=formats.read(chat.response_format, chat.structured_outputs),
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
            return _image(part.image_url, f"{param}.image_url")
        case FilePart():
            return _image(part.file, f"{param}.file")
        case ImageBlock(source=ImageSource() as source):
            return _image(source, f"{param}.source")
    return _image(part, param)


def _image(said: Wire, param: str) -> InputImage:
    """Return the image that one of the fields of `said` holds or names."""
    for name in HOLDERS:
        value: str | None = getattr(said, name, None)
        if value is not None:
            return InputImage(value if name in URLS else as_data_url(value), f"{param}.{name}")
    return InputImage("", f"{param}.file_id", getattr(said, "file_id", None))
