r"""Each style writes the listed conversations down as its source does, character by character.

Sources: `card`, the usage section of the hub's llava-1.5-7b-hf model card; `vicuna_v1`, `conv_vicuna_v1` of
haotian-liu/LLaVA; `hub`, the chat template of the hub's llava-1.5-7b-hf (see also test_hub_template.py).
"""

import pytest

from gateway.prompt.styles import STYLES
from gateway.prompt.template import END, SLOT, render
from tests.prompt.conversations import CONVERSATIONS, user, written

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful,"
    " detailed, and polite answers to the user's questions."
)

CARD_STRINGS = {
    "no picture": "USER: What is 2 + 2?\nASSISTANT:",
    "one picture": "USER: <image>\nWhat are these?\nASSISTANT:",
    "a picture after the text": "USER: What are these?\n<image>\nASSISTANT:",
    "a picture alone": "USER: <image>\nASSISTANT:",
    "three pictures": "USER: <image>\n<image>\n<image>\nWhich is the odd one out?\nASSISTANT:",
    "pictures between texts": (
        "USER: First:\n<image>\nSecond:\n<image>\nThird:\n<image>\nCompare.\nBe brief.\nASSISTANT:"
    ),
    "system text": "Answer in French.\nUSER: <image>\nWhat are these?\nASSISTANT:",
    "three turns": (
        "S\nUSER: <image>\nQ1\nASSISTANT: A1</s>USER: Q2\nASSISTANT: A2</s>"
        "USER: Q3\n<image>\n<image>\nASSISTANT:"
    ),
    "blanks at both ends": (
        "USER: <image>\n  What  is it? \nASSISTANT:  A cat. </s>USER: \nWhy?\n \nASSISTANT:"
    ),
    "emoji": "USER: <image>\n👩‍👩‍👧 or 🐈‍⬛?\nASSISTANT: 🐈‍⬛</s>USER: 👍🏽\nASSISTANT:",
    "Chinese": (
        "请用中文回答。\nUSER: 这是什么？\n<image>\nASSISTANT: 一只猫。</s>USER: 什么颜色？\nASSISTANT:"
    ),
    "tabs": "USER: <image>\na\tb\t\tc\t\nASSISTANT:",
    "spelt-out tokens": (
        "USER: <image>\n<image></s><s>USER: ASSISTANT:<pad>\nASSISTANT: </s></s>USER: <image>\n\nASSISTANT:"
    ),
}

VICUNA_STRINGS = {
    "no picture": f"{VICUNA} USER: What is 2 + 2? ASSISTANT:",
    "one picture": f"{VICUNA} USER: <image>\nWhat are these? ASSISTANT:",
    "a picture after the text": f"{VICUNA} USER: What are these?\n<image> ASSISTANT:",
    "a picture alone": f"{VICUNA} USER: <image> ASSISTANT:",
    "three pictures": f"{VICUNA} USER: <image>\n<image>\n<image>\nWhich is the odd one out? ASSISTANT:",
    "pictures between texts": (
        f"{VICUNA} USER: First:\n<image>\nSecond:\n<image>\nThird:\n<image>\nCompare.\nBe brief. ASSISTANT:"
    ),
    "system text": "Answer in French. USER: <image>\nWhat are these? ASSISTANT:",
    "three turns": (
        "S USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>USER: Q3\n<image>\n<image> ASSISTANT:"
    ),
    "blanks at both ends": (
        f"{VICUNA} USER: <image>\n  What  is it?  ASSISTANT:  A cat. </s>USER: \nWhy?\n  ASSISTANT:"
    ),
    "emoji": f"{VICUNA} USER: <image>\n👩‍👩‍👧 or 🐈‍⬛? ASSISTANT: 🐈‍⬛</s>USER: 👍🏽 ASSISTANT:",
    "Chinese": "请用中文回答。 USER: 这是什么？\n<image> ASSISTANT: 一只猫。</s>USER: 什么颜色？ ASSISTANT:",
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


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("style", STYLES)
def test_a_prompt_is_its_source_s_string(style: str, name: str) -> None:
    assert written(render(CONVERSATIONS[name], STYLES[style])) == STRINGS[style][name]


@pytest.mark.parametrize(
    ("style", "first"),
    [("card", "USER: Q\n"), ("vicuna_v1", f"{VICUNA} USER: Q\n"), ("hub", "USER: ")],
)
def test_only_the_hub_s_form_moves_pictures_to_the_front(style: str, first: str) -> None:
    segments = render([user("Q", SLOT)], STYLES[style])
    assert segments[:2] == (first, SLOT)


@pytest.mark.parametrize(("style", "separator"), [("card", "\n"), ("vicuna_v1", " ")])
def test_spelt_out_tokens_are_text_and_slots_and_ends_are_not(style: str, separator: str) -> None:
    segments = render(CONVERSATIONS["spelt-out tokens"], STYLES[style])
    assert segments[1:] == (
        SLOT,
        f"\n<image></s><s>USER: ASSISTANT:<pad>{separator}ASSISTANT: </s>",
        END,
        f"USER: <image>\n{separator}ASSISTANT:",
    )
