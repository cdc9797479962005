"""Messages become segments: text, places for pictures, and ends of replies.

What a user typed is only ever part of a text segment, so no spelling of `<image>` or `</s>` gets beyond text.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby, takewhile
from typing import Final, Literal

from gateway.errors import InvalidValue
from gateway.prompt.styles import MessageStyle, Style, TurnStyle

Role = Literal["system", "user", "assistant"]


class Slot(Enum):
    """The type of SLOT."""

    SLOT = "<image>"


class End(Enum):
    """The type of END."""

    END = "</s>"


SLOT: Final = Slot.SLOT  # stands for a picture
END: Final = End.END  # stands for the model's `</s>` token

Segment = str | Slot | End


@dataclass(frozen=True, slots=True)
class Message:
    """What one side said: texts and pictures, in the client's order."""

    role: Role
    parts: tuple[str | Slot, ...]

    @property
    def empty(self) -> bool:
        """Whether there is neither a character nor a picture in it."""
        return not any(self.parts)


def render(messages: Sequence[Message], style: Style) -> tuple[Segment, ...]:
    """Return the prompt for the assistant's next reply, no two texts in it adjacent and none empty.

    Raises InvalidValue for a picture that is not the user's, where the user says nothing, and where the
    assistant spoke last.
    """
    _check(messages)
    pieces = _by_turn(messages, style) if isinstance(style, TurnStyle) else _by_message(messages, style)
    return tuple(_joined(pieces))


def _check(messages: Sequence[Message]) -> None:
    for i, message in enumerate(messages):
        if message.role != "user" and SLOT in message.parts:
            param = f"messages[{i}].content[{message.parts.index(SLOT)}]"
            raise InvalidValue(
                f"{param}: a picture in a message of role '{message.role}'; "
                "pictures may stand in user messages only",
                param=param,
            )
    said = [(i, message.role) for i, message in enumerate(messages) if not message.empty]
    if not any(role == "user" for _, role in said):
        raise InvalidValue(
            f"messages: none of the {len(messages)} messages is a user's with text or a picture; "
            "there must be one",
            param="messages",
        )
    last, speaker = said[-1]
    if speaker == "assistant":
        # Some clients mean "continue this reply" by it, others, as OpenAI does, "give another". LLaVA learned
        # neither, and whichever was chosen, the other half would get nonsense with a 200.
        raise InvalidValue(
            f"messages[{last}]: the assistant spoke last, and a reply cannot be continued; "
            "the last message with content must be the user's",
            param=f"messages[{last}]",
        )


def _by_turn(messages: Sequence[Message], style: TurnStyle) -> Iterator[Segment]:
    # Chat frontends send empty messages as placeholders; the model never saw a turn without content.
    said = [message for message in messages if not message.empty]
    head = list(takewhile(lambda message: message.role == "system", said))
    system = "".join(_texts(_in_order(head))) if head else style.system
    if system:
        yield system + style.after_system
    opening = True
    for assistant, turn in groupby(said[len(head) :], lambda message: message.role == "assistant"):
        # Whoever speaks twice has one turn, and system text after the head is part of the user's: the model
        # learned strict alternation, and system text at the head alone.
        if assistant:
            yield ("" if opening else style.before_assistant) + style.assistant + " "
            yield from _in_order(turn)
            yield END
        else:
            yield style.user
            yield from _in_order(turn)
        opening = False
    yield style.before_assistant + style.assistant


def _in_order(messages: Iterable[Message]) -> Iterator[str | Slot]:
    r"""Yield the parts with "\n" after each but the last, and but a text that ends with one; none is changed.

    So a picture is `<image>` and a newline, and a last one has none, as the original strips its messages.
    """
    before: str | Slot | None = None
    for part in (part for message in messages for part in message.parts if part):
        if before is SLOT or (before is not None and not before.endswith("\n")):
            yield "\n"
        yield part
        before = part


def _by_message(messages: Sequence[Message], style: MessageStyle) -> Iterator[Segment]:
    names = {"system": "", "user": style.user, "assistant": style.assistant + " "}
    for message in messages:
        yield names[message.role]
        for _ in range(message.parts.count(SLOT)):
            yield SLOT
            yield "\n"
        for text in _texts(message.parts):
            yield text + style.after_text
    yield style.assistant


def _texts(parts: Iterable[str | Slot]) -> Iterator[str]:
    return (part for part in parts if isinstance(part, str))


def _joined(pieces: Iterable[Segment]) -> Iterator[Segment]:
    text: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            text.append(piece)
            continue
        if any(text):
            yield "".join(text)
        text.clear()
        yield piece
    if any(text):
        yield "".join(text)
