r"""Each style writes the listed conversations down as its source does, character by character.

Sources: `card`, the usage section of the hub's llava-1.5-7b-hf model card; `vicuna_v1`, `conv_vicuna_v1` of
haotian-liu/LLaVA; `hub`, the chat template of the hub's llava-1.5-7b-hf (see also test_hub_template.py).
"""

import pytest

from gateway.prompt.styles import STYLES
from gateway.prompt.template import END, SLOT, render
from gateway.settings import ImagePlace
from tests.each import each
from tests.prompt.conversations import CONVERSATIONS, assistant, system, user, written

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful,"
    " detailed, and polite answers to the user's questions."
)

CARD_STRINGS = {
    "no picture": "USER: What is 2 + 2?\nASSISTANT:",
    "one picture": "USER: <image>\nWhat are these?\nASSISTANT:",
    "a picture after the text": "USER: <image>\nWhat are these?\nASSISTANT:",
    "a picture alone": "USER: <image>\nASSISTANT:",
    "three pictures": "USER: <image>\n<image>\n<image>\nWhich is the odd one out?\nASSISTANT:",
    "pictures between texts": (
        "USER: First:\n<image>\nSecond:\n<image>\nThird:\n<image>\nCompare.\nBe brief.\nASSISTANT:"
    ),
    "system text": "Answer in French.\nUSER: <image>\nWhat are these?\nASSISTANT:",
    "three turns": (
        "S\nUSER: <image>\nQ1\nASSISTANT: A1</s>USER: Q2\nASSISTANT: A2</s>"
        "USER: <image>\n<image>\nQ3\nASSISTANT:"
    ),
    "blanks at both ends": (
        "USER: <image>\n  What  is it? \nASSISTANT:  A cat. </s>USER: \nWhy?\n \nASSISTANT:"
    ),
    "emoji": "USER: <image>\n👩‍👩‍👧 or 🐈‍⬛?\nASSISTANT: 🐈‍⬛</s>USER: 👍🏽\nASSISTANT:",
    "Chinese": (
        "请用中文回答。\nUSER: <image>\n这是什么？\nASSISTANT: 一只猫。</s>USER: 什么颜色？\nASSISTANT:"
    ),
    "tabs": "USER: <image>\na\tb\t\tc\t\nASSISTANT:",
    "spelt-out tokens": (
        "USER: <image>\n<image></s><s>USER: ASSISTANT:<pad>\nASSISTANT: </s></s>USER: <image>\n\nASSISTANT:"
    ),
}

VICUNA_STRINGS = {
    "no picture": f"{VICUNA} USER: What is 2 + 2? ASSISTANT:",
    "one picture": f"{VICUNA} USER: <image>\nWhat are these? ASSISTANT:",
    "a picture after the text": f"{VICUNA} USER: <image>\nWhat are these? ASSISTANT:",
    "a picture alone": f"{VICUNA} USER: <image> ASSISTANT:",
    "three pictures": f"{VICUNA} USER: <image>\n<image>\n<image>\nWhich is the odd one out? ASSISTANT:",
    "pictures between texts": (
        f"{VICUNA} USER: First:\n<image>\nSecond:\n<image>\nThird:\n<image>\nCompare.\nBe brief. ASSISTANT:"
    ),
    "system text": "Answer in French. USER: <image>\nWhat are these? ASSISTANT:",
    "three turns": (
        "S USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>USER: <image>\n<image>\nQ3 ASSISTANT:"
    ),
    "blanks at both ends": (
        f"{VICUNA} USER: <image>\n  What  is it?  ASSISTANT:  A cat. </s>USER: \nWhy?\n  ASSISTANT:"
    ),
    "emoji": f"{VICUNA} USER: <image>\n👩‍👩‍👧 or 🐈‍⬛? ASSISTANT: 🐈‍⬛</s>USER: 👍🏽 ASSISTANT:",
    "Chinese": "请用中文回答。 USER: <image>\n这是什么？ ASSISTANT: 一只猫。</s>USER: 什么颜色？ ASSISTANT:",
    "tabs": f"{VICUNA} USER: <image>\na\tb\t\tc\t ASSISTANT:",
    "spelt-out tokens": (
        f"{VICUNA} USER: <image>\n<image></s><s>USER: ASSISTANT:<pad> ASSISTANT: </s></s>"
        "USER: <image>\n ASSISTANT:"
    ),
}

HUB_STRINGS = {
    "no picture": "USER: What is 2 + 2? ASSISTANT:",
    "one picture": "USER: <image>\nWhat are these? ASSISTANT:",
    "a picture after the text": "USER: <image>\nWhat are these? ASSISTANT:",
    "a picture alone": "USER: <image>\nASSISTANT:",
    "three pictures": "USER: <image>\n<image>\n<image>\nWhich is the odd one out? ASSISTANT:",
    "pictures between texts": (
        "USER: <image>\n<image>\n<image>\nFirst: Second:\n Third: Compare. Be brief. ASSISTANT:"
    ),
    "system text": "Answer in French. USER: <image>\nWhat are these? ASSISTANT:",
    "three turns": (
        "S USER: <image>\nQ1 ASSISTANT: A1 USER: Q2 ASSISTANT: A2 USER: <image>\n<image>\nQ3 ASSISTANT:"
    ),
    "blanks at both ends": ("USER: <image>\n  What  is it?  ASSISTANT:  A cat.  USER: \nWhy?\n  ASSISTANT:"),
    "emoji": "USER: <image>\n👩‍👩‍👧 or 🐈‍⬛? ASSISTANT: 🐈‍⬛ USER: 👍🏽 ASSISTANT:",
    "Chinese": "请用中文回答。 USER: <image>\n这是什么？ ASSISTANT: 一只猫。 USER: 什么颜色？ ASSISTANT:",
    "tabs": "USER: <image>\na\tb\t\tc\t ASSISTANT:",
    "spelt-out tokens": (
        "USER: <image>\n<image></s><s>USER: ASSISTANT:<pad> ASSISTANT: </s> USER: <image>\n ASSISTANT:"
    ),
}

STRINGS = {"card": CARD_STRINGS, "vicuna_v1": VICUNA_STRINGS, "hub": HUB_STRINGS}


def test_every_style_is_held_to_every_conversation() -> None:
    assert STRINGS.keys() == STYLES.keys()
    assert all(strings.keys() == CONVERSATIONS.keys() for strings in STRINGS.values())


@each("name", CONVERSATIONS)
@each("style", STYLES)
def test_a_prompt_is_its_source_s_string(style: str, name: str) -> None:
    assert written(render(CONVERSATIONS[name], STYLES[style])) == STRINGS[style][name]


# What the client sent, and where its pictures stand in style `card`: with `auto`, with `asked`.
PLACED = {
    "text, picture": (user("Q", SLOT), "<image>\nQ", "Q\n<image>"),
    "picture, text": (user(SLOT, "Q"), "<image>\nQ", "<image>\nQ"),
    "text, two pictures": (user("Q", SLOT, SLOT), "<image>\n<image>\nQ", "Q\n<image>\n<image>"),
    "text, picture, text": (user("Q1", SLOT, "Q2"), "<image>\nQ1\nQ2", "Q1\n<image>\nQ2"),
    "text between two pictures": (
        user("Q1", SLOT, "Q2", SLOT),
        "Q1\n<image>\nQ2\n<image>",
        "Q1\n<image>\nQ2\n<image>",
    ),
    "nothing but a newline between two pictures": (
        user("Q", SLOT, "\n", SLOT),
        "<image>\n<image>\nQ\n\n",
        "Q\n<image>\n\n<image>",
    ),
    "no picture": (user("Q1", "Q2"), "Q1\nQ2", "Q1\nQ2"),
}


@pytest.mark.parametrize("name", PLACED)
def test_pictures_lead_unless_text_stands_between_two_or_the_client_s_place_is_asked_for(name: str) -> None:
    message, auto, asked = PLACED[name]
    places: dict[ImagePlace, str] = {"auto": auto, "asked": asked}
    for place, said in places.items():
        assert written(render([message], STYLES["card"], place)) == f"USER: {said}\nASSISTANT:"


def test_pictures_lead_the_turn_where_the_user_s_messages_follow_each_other() -> None:
    assert written(render([user("Q1"), user(SLOT)], STYLES["card"])) == "USER: <image>\nQ1\nASSISTANT:"


def test_the_hub_s_form_has_pictures_where_its_template_puts_them_unless_asked() -> None:
    message = user("Q1", SLOT, "Q2", SLOT)
    assert written(render([message], STYLES["hub"])) == "USER: <image>\n<image>\nQ1 Q2 ASSISTANT:"
    assert written(render([message], STYLES["hub"], "asked")) == "USER: Q1 <image>\nQ2 <image>\nASSISTANT:"


CONTINUED = {
    "card": "S\nUSER: Q1\nASSISTANT: A1</s>USER: Q2\nASSISTANT: It is",
    "vicuna_v1": "S USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: It is",
    "hub": "S USER: Q1 ASSISTANT: A1 USER: Q2 ASSISTANT: It is",
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("begun", ["It is", "It is ", "It is  "])
def test_a_reply_that_is_continued_ends_with_its_last_word(style: str, begun: str) -> None:
    talk = [system("S"), user("Q1"), assistant("A1"), user("Q2"), assistant(begun)]
    assert written(render(talk, STYLES[style], continued=True)) == CONTINUED[style]


@pytest.mark.parametrize("style", STYLES)
def test_a_reply_without_words_is_continued_as_a_new_one(style: str) -> None:
    continued = render([user("Q"), assistant("")], STYLES[style], continued=True)
    assert continued == render([user("Q")], STYLES[style])


@pytest.mark.parametrize(("style", "separator"), [("card", "\n"), ("vicuna_v1", " ")])
def test_spelt_out_tokens_are_text_and_slots_and_ends_are_not(style: str, separator: str) -> None:
    segments = render(CONVERSATIONS["spelt-out tokens"], STYLES[style])
    assert segments[1:] == (
        SLOT,
        f"\n<image></s><s>USER: ASSISTANT:<pad>{separator}ASSISTANT: </s>",
        END,
        f"USER: <image>\n{separator}ASSISTANT:",
    )
