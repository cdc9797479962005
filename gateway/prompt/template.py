"""Turns messages into segments: text, image slots, and ends of replies.

What a user typed is only ever part of a text segment, so no spelling of `<image>` or `</s>` gets beyond text.
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


SLOT: Final = Slot.SLOT  # stands for a picture
END: Final = End.END  # stands for the model's `</s>` token

Segment = str | Slot | End


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """What one side said: texts and pictures, in the client's order. `param` is its field in errors."""

    role: Role
    parts: tuple[str | Slot, ...]
    param: str | None = None

    @property
    def empty(self) -> bool:
        """Whether there is neither a character nor a picture in it."""
        return not any(self.parts)


def render(
    messages: Sequence[PromptMessage], style: Style, place: ImagePlace = "auto", *, continued: bool = False
) -> tuple[Segment, ...]:
    """Return the prompt for the assistant's next reply, no two texts in it adjacent and none empty.

    With `place` `auto`, a user's pictures lead, as LLaVA was trained, unless text stands between two of them;
    with `asked`, they stand where the client put them. A prompt that is `continued` ends within the reply
    that the last message began; spaces at its end are left out, because LLaVA's words bring their own.

    Raises InvalidValue for a picture that is not the user's, and where the assistant spoke last and is not
    `continued`, or the other way round.
    """
    _check_pictures(messages)
    _check_last(messages, continued)
    if isinstance(style, TurnStyle):
        return tuple(_joined(_by_turn(_spoken(messages), style, place, continued)))
    return tuple(_joined(_by_message(messages, style, place, continued)))


def _check_pictures(messages: Sequence[PromptMessage]) -> None:
    for i, message in enumerate(messages):
        if message.role != "user" and SLOT in message.parts:
            param = f"{message.param or f'messages[{i}]'}.content[{message.parts.index(SLOT)}]"
            raise InvalidValue(
                f"{param}: a picture in a message of role '{message.role}'; "
                "pictures are allowed in user messages only",
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
            # The client asked for another reply, not for this one to go on. LLaVA never learned to speak
            # twice in a row, and its answer would be nonsense with a 200.
            param = message.param or f"messages[{i}]"
            raise InvalidValue(
                f"{param}: the assistant spoke last; add a user message, or set "
                "`continue_final_message` to true to continue its message",
                param=param,
            )
        if message.role == "user" or not message.empty:
            return


def _spoken(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return the messages that make turns.

    Chat frontends send empty messages as placeholders, and the model never saw a turn without content. But
    there is always somebody to answer: a user whose last message is empty, or the system's text where there
    is no other.
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
    # Whoever speaks twice has one turn, and system text after the head is part of the user's: the model
    # learned strict alternation, and system text at the head alone.
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
        # The hub's template knows one place, whatever stands between.
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

    So a picture is `<image>` and a newline, and a picture at the end has none, as the original strips its
    messages.
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
