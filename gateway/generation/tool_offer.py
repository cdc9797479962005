"""Which tools an answer may call: the client's choice, the operator's and the room in the prompt."""

from gateway.engine.interface import Model
from gateway.errors import InvalidValue
from gateway.generation import tools
from gateway.generation.history import RESERVE, Fitted
from gateway.generation.request import GenerationRequest, InputMessage
from gateway.generation.tools import Offer
from gateway.prompt import tokens
from gateway.settings import Settings

MOST_TOKENS = 1024  # of the prompt, for the tools' descriptions


def decide(
    request: GenerationRequest, fitted: Fitted, model: Model, settings: Settings, most: int = MOST_TOKENS
) -> tuple[Offer | None, int]:
    """Return what is offered beside the conversation `fitted`, and how many tools the prompt leaves out.

    The tools' descriptions may take `most` tokens of the prompt.

    Tools must not keep a person from an answer: where the answer may be text, they are left out rather than
    refused. Raises InvalidValue where there must be a call and none is possible.
    """
    wanted = tools.wanted(request)
    if not wanted:
        return None, 0
    if request.tool_choice.mode == "required":
        _check_free(request)
    elif not _may_call(request, fitted, settings):
        return None, len(wanted)
    room = model.context_length - tokens.length(fitted.ids, model) - RESERVE
    offer = tools.offer(
        wanted,
        request,
        length=lambda text: tokens.count_up_to(text, model, most) + 1,
        room=min(most, room),
    )
    return offer, len(wanted) - (offer.described if offer else 0)


def _check_free(request: GenerationRequest) -> None:
    """Refuse what cannot be beside a call that is required."""
    if request.constraint is not None:
        name = request.constraint.param.removesuffix(".schema").removesuffix(".json_schema")
        raise InvalidValue(f"tool_choice: a call cannot be required with `{name}`", param="tool_choice")
    if request.continued:
        raise InvalidValue(
            "tool_choice: a call cannot be required where the answer continues the assistant's message, "
            "which is the last; add a user message after it",
            param="tool_choice",
        )


def _may_call(request: GenerationRequest, fitted: Fitted, settings: Settings) -> bool:
    if settings.auto_tools == "never" or request.constraint or request.continued:
        return False
    if any(request.sampling.get(name) for name in ("min_tokens", "ignore_eos")):
        return False
    return settings.auto_tools == "always" or not any(message.images for message in fitted.messages)


def add_offer(messages: tuple[InputMessage, ...], offer: Offer, system: str) -> tuple[InputMessage, ...]:
    """Return the conversation with the offer at the end of its system text, or of the style's, `system`."""
    head = 0
    while head < len(messages) and messages[head].role == "system":
        head += 1
    parts = (offer.text,) if head or not system else (system, offer.text)
    return (*messages[:head], InputMessage("system", parts, "tools"), *messages[head:])
