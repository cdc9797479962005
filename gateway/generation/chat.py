"""From a chat request on the wire to a `GenerationRequest`."""

from gateway.generation.request import GenerationRequest, InputImage, InputMessage
from gateway.schema.chat import ChatCompletionRequest, ImagePart, Message


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
    )


def _message(message: Message, param: str) -> InputMessage:
    parts = (
        InputImage(part.image_url.url, f"{param}.content[{place}].image_url.url")
        if isinstance(part, ImagePart)
        else part.text
        for place, part in enumerate(message.content or ())
    )
    return InputMessage("system" if message.role == "developer" else message.role, tuple(parts), param)
