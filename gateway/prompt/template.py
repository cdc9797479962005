"""Renders messages as segments: text, image slots, and ends of replies.

Text of a user is only ever part of a text segment, so a typed `<image>` or `</s>` stays text.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby, takewhile
from typing import Final, Literal

from gateway.errors import InvalidValue
from gateway.prompt.styles import MessageStyle, Style, TurnStyle
from gateway.settings import ImagePlace

Role = Literal["system", "user", "assistant"]


class Slot(Enum):
    """The type of SLOT."""

    SLOT = "<image>"


class End(Enum):
    """The type of END."""

    END = "</s>"


SLOT: Final = Slot.SLOT  # stands for an image
END: Final = End.END  # stands for the model's `</s>` token

Segment = str | Slot | End


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """A message: texts and images in the client's order. `param` is its field in errors."""

    role: Role
    parts: tuple[str | Slot, ...]
    param: str | None = None

    @property
    def empty(self) -> bool:
        """Return whether it has neither text nor an image."""
        return not any(self.parts)


def render(
    messages: Sequence[PromptMessage], style: Style, place: ImagePlace = "auto", *, continued: bool = False
) -> tuple[Segment, ...]:
    """Return the prompt for the assistant's next reply; no two texts in it are adjacent and none is empty.

    With `place` `auto`, a user's images come first, as LLaVA was trained, unless there is text between two of
    them; with `asked`, they stay where the client put them. A `continued` prompt ends within the reply that
    the last message began, without spaces at its end, because LLaVA's tokens start with a space.

    Raises InvalidValue for an image in a message that is not the user's, and if the last message is the
    assistant's without `continued`, or is not with it.
    """
    _check_images(messages)
    _check_last(messages, continued)
    if isinstance(style, TurnStyle):
        return tuple(_joined(_by_turn(_turn_messages(messages), style, place, continued)))
    return tuple(_joined(_by_message(messages, style, place, continued)))


def _check_images(messages: Sequence[PromptMessage]) -> None:
    for i, message in enumerate(messages):
        if message.role != "user" and SLOT in message.parts:
            param = f"{message.param or f'messages[{i}]'}.content[{message.parts.index(SLOT)}]"
            raise InvalidValue(
                f"{param}: images are allowed in user messages only; got one in a message of role "
                f"'{message.role}'",
                param=param,
            )


def _check_last(messages: Sequence[PromptMessage], continued: bool) -> None:
    if continued and messages[-1].role != "assistant":
        raise InvalidValue(
            "continue_final_message: the last message must be the assistant's; "
            f"got role '{messages[-1].role}'",
            param="continue_final_message",
        )
    if continued:
        return
    for i, message in reversed(list(enumerate(messages))):
        if message.role == "assistant" and not message.empty:
            # The client asks for a new reply, not to continue this one. LLaVA was not trained on two replies
            # in a row, so the answer would be nonsense.
            param = message.param or f"messages[{i}]"
            raise InvalidValue(
                f"{param}: the assistant spoke last; add a user message, or set "
                "`continue_final_message` to true to continue its message",
                param=param,
            )
        if message.role == "user" or not message.empty:
            return


def _turn_messages(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return the messages that become turns.

    Empty messages are dropped: chat frontends send them as placeholders, and the model never saw an empty
    turn. But the last turn is always a user's: an empty last message of the user is kept after a reply, and
    system text without other messages becomes a user's.
    """
    said = [message for message in messages if not message.empty]
    if all(message.role == "system" for message in said):
        return [PromptMessage("user", tuple(_parts(said)))]
    if said[-1].role == "assistant" and messages[-1].role == "user":
        said.append(messages[-1])
    return said


def _by_turn(
    said: Sequence[PromptMessage], style: TurnStyle, place: ImagePlace, continued: bool
) -> Iterator[Segment]:
    head = list(takewhile(lambda message: message.role == "system", said))
    system = "".join(_texts(_lines(_parts(head)))) if head else style.system
    if system:
        yield system + style.after_system
    # Consecutive messages of one side become one turn, and later system text is part of the user's turn: the
    # model was trained on strict alternation, with system text only at the start.
    talk = groupby(said[len(head) :], lambda message: message.role == "assistant")
    turns = [list(turn) for _, turn in talk]
    before = ""
    for turn in turns:
        parts = _parts(turn)
        if turn[0].role != "assistant":
            yield style.user
            yield from _lines(_placed(parts, place))
            before = style.before_assistant
            continue
        name = f"{before}{style.assistant} "
        if continued and turn is turns[-1]:
            yield _begun(name, _texts(_lines(parts)))
            return
        yield name
        yield from _lines(parts)
        yield END
    yield style.before_assistant + style.assistant


def _by_message(
    messages: Sequence[PromptMessage], style: MessageStyle, place: ImagePlace, continued: bool
) -> Iterator[Segment]:
    names = {"system": "", "user": style.user, "assistant": style.assistant + " "}
    for message in messages[:-1] if continued else messages:
        yield names[message.role]
        # The hub's template always puts images first, even with text between them.
        for part in message.parts if place == "asked" else _front(message.parts):
            yield from (SLOT, "\n") if part is SLOT else (part + style.after_text,)
    if continued:
        yield _begun(names["assistant"], (text + style.after_text for text in _texts(messages[-1].parts)))
    else:
        yield style.assistant


def _begun(name: str, texts: Iterable[str]) -> str:
    return (name + "".join(texts)).rstrip(" ")


def _parts(messages: Iterable[PromptMessage]) -> list[str | Slot]:
    return [part for message in messages for part in message.parts if part]


def _placed(parts: Sequence[str | Slot], place: ImagePlace) -> Sequence[str | Slot]:
    slots = [at for at, part in enumerate(parts) if part is SLOT]
    if place == "asked" or not slots:
        return parts
    between = _texts(parts[slots[0] : slots[-1]])
    return parts if any(text.strip() for text in between) else _front(parts)


def _front(parts: Sequence[str | Slot]) -> list[str | Slot]:
    return [*(part for part in parts if part is SLOT), *_texts(parts)]


def _lines(parts: Iterable[str | Slot]) -> Iterator[str | Slot]:
    r"""Yield the parts, with "\n" after each except the last and except a text that ends with one.

    So an image is `<image>` and a newline, and an image at the end has no newline, because the original
    strips its messages.
    """
    before: str | Slot | None = None
    for part in parts:
        if before is SLOT or (before is not None and not before.endswith("\n")):
            yield "\n"
        yield part
        before = part


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
