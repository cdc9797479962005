"""The prompt styles, as data. docs/prompts.md shows each on one conversation."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class TurnStyle:
    """System text, then turns; a reply ends with `</s>`; images stay where the client put them."""

    system: str  # if the client sends none
    after_system: str
    before_assistant: str  # between the user's text and `assistant`
    user: str = "USER: "
    assistant: str = "ASSISTANT:"


@dataclass(frozen=True, slots=True)
class MessageStyle:
    """Messages one by one, not merged: the speaker, its images, then each text with `after_text`."""

    after_text: str
    user: str = "USER: "
    assistant: str = "ASSISTANT:"


Style = TurnStyle | MessageStyle

# The form on the model card of llava-1.5-7b-hf. The card shows one turn; further turns are as in training.
CARD = TurnStyle(system="", after_system="\n", before_assistant="\n")

# The form that LLaVA-1.5 was trained with: `conv_vicuna_v1` in llava/conversation.py of haotian-liu/LLaVA.
VICUNA_V1 = TurnStyle(
    system=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
    after_system=" ",
    before_assistant=" ",
)

# Exactly what the chat template of llava-1.5-7b-hf renders; it has no `</s>`.
HUB = MessageStyle(after_text=" ")

STYLES: Mapping[str, Style] = MappingProxyType({"card": CARD, "vicuna_v1": VICUNA_V1, "hub": HUB})
