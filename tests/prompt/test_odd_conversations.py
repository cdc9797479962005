"""Conversations of a shape never trained on are mended where that is plain, and else refused by name."""

import pytest

from gateway.errors import InvalidValue
from gateway.prompt.styles import STYLES
from gateway.prompt.template import SLOT, PromptMessage, render
from tests.each import each
from tests.prompt.conversations import assistant, system, user, written

MENDED = {
    "system messages at the head are lines of one text": (
        [system("S1"), system("S2", "S3"), user("Q")],
        "S1\nS2\nS3\nUSER: Q\nASSISTANT:",
    ),
    "an empty system message counts as none": ([system(""), user("Q")], "USER: Q\nASSISTANT:"),
    "a blank system message is text": ([system(" "), user("Q")], " \nUSER: Q\nASSISTANT:"),
    "a later system message is a line of the user's next turn": (
        [user("Q1"), assistant("A1"), system("S"), user("Q2")],
        "USER: Q1\nASSISTANT: A1</s>USER: S\nQ2\nASSISTANT:",
    ),
    "a system message at the end is a line of the user's turn": (
        [user("Q"), system("S")],
        "USER: Q\nS\nASSISTANT:",
    ),
    "a system message between two of the user's is a line of their turn": (
        [user("Q1"), system("S"), user("Q2")],
        "USER: Q1\nS\nQ2\nASSISTANT:",
    ),
    "user messages in a row are lines of one turn": (
        [user("Q1"), user(SLOT), user("Q2")],
        "USER: <image>\nQ1\nQ2\nASSISTANT:",
    ),
    "replies in a row are lines of one reply": (
        [user("Q1"), assistant("A1"), assistant("A2"), user("Q2")],
        "USER: Q1\nASSISTANT: A1\nA2</s>USER: Q2\nASSISTANT:",
    ),
    "a greeting opens the conversation": (
        [system("S"), assistant("Hello!"), user("Q")],
        "S\nASSISTANT: Hello!</s>USER: Q\nASSISTANT:",
    ),
    "empty messages and parts count as not sent": (
        [user("Q1"), assistant(""), user(), user("", SLOT, "", "Q2", "")],
        "USER: <image>\nQ1\nQ2\nASSISTANT:",
    ),
    "system text alone is what the user says": ([system("S1"), system("S2")], "USER: S1\nS2\nASSISTANT:"),
    "system text and an empty question are what the user says": (
        [system("S"), user("")],
        "USER: S\nASSISTANT:",
    ),
    "an empty question after a reply is an empty turn": (
        [user("Q"), assistant("A"), user("")],
        "USER: Q\nASSISTANT: A</s>USER: \nASSISTANT:",
    ),
    "nothing at all is an empty turn": ([user("")], "USER: \nASSISTANT:"),
    "an empty reply at the end counts as not sent": ([user("Q"), assistant("")], "USER: Q\nASSISTANT:"),
    "a text that ends its line gets no second newline": (
        [user("a\n", "b\n", SLOT, "\nc")],
        "USER: <image>\na\nb\n\nc\nASSISTANT:",
    ),
}


@each("name", MENDED)
def test_mended(name: str) -> None:
    messages, prompt = MENDED[name]
    assert written(render(messages, STYLES["card"])) == prompt


def test_an_empty_system_message_leaves_vicuna_its_own_system_text() -> None:
    prompt = written(render([system(""), user("Q")], STYLES["vicuna_v1"]))
    assert prompt == written(render([user("Q")], STYLES["vicuna_v1"]))
    assert prompt.startswith("A chat between a curious user and an artificial intelligence assistant. ")


MISPLACED = "{param}: images are allowed in user messages only; got one in a message of role '{role}'"
SPOKE_LAST = (
    "messages[1]: the assistant spoke last; add a user message, or set `continue_final_message` to true "
    "to continue its message"
)
REFUSED: dict[str, tuple[list[PromptMessage], str, str]] = {
    "a picture in a system message": (
        [system("S", SLOT), user("Q")],
        "messages[0].content[1]",
        MISPLACED.format(param="messages[0].content[1]", role="system"),
    ),
    "a picture in a reply": (
        [user("Q"), assistant("a", "b", SLOT), user("Q")],
        "messages[1].content[2]",
        MISPLACED.format(param="messages[1].content[2]", role="assistant"),
    ),
    "a reply at the end": (
        [user("Q"), assistant("A")],
        "messages[1]",
        SPOKE_LAST,
    ),
    "a reply and then nothing said": (
        [user("Q"), assistant("A"), system(""), assistant("")],
        "messages[1]",
        SPOKE_LAST,
    ),
}


@each("style", STYLES)
@each("name", REFUSED)
def test_refused_by_name_in_every_style(name: str, style: str) -> None:
    messages, param, sentence = REFUSED[name]
    with pytest.raises(InvalidValue) as refusal:
        render(messages, STYLES[style])
    assert refusal.value.param == param
    assert refusal.value.message == sentence


@pytest.mark.parametrize("style", STYLES)
def test_only_the_assistant_s_last_message_can_be_continued(style: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        render([user("Q"), assistant("A"), user("Q")], STYLES[style], continued=True)
    assert refusal.value.param == "continue_final_message"
    assert refusal.value.message == (
        "continue_final_message: the last message must be the assistant's; got role 'user'"
    )
