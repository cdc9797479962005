"""The conversations on which the styles are held against their sources."""

from collections.abc import Iterable

from gateway.prompt.template import SLOT, PromptMessage, Segment, Slot


def system(*parts: str | Slot) -> PromptMessage:
    return PromptMessage("system", parts)


def user(*parts: str | Slot) -> PromptMessage:
    return PromptMessage("user", parts)


def assistant(*parts: str | Slot) -> PromptMessage:
    return PromptMessage("assistant", parts)


def written(segments: Iterable[Segment]) -> str:
    """Return the prompt as the sources write it down, slots and ends spelt out."""
    return "".join(segment if isinstance(segment, str) else segment.value for segment in segments)


CONVERSATIONS = {
    "no picture": [user("What is 2 + 2?")],
    "one picture": [user(SLOT, "What are these?")],
    "a picture after the text": [user("What are these?", SLOT)],
    "a picture alone": [user(SLOT)],
    "three pictures": [user(SLOT, SLOT, SLOT, "Which is the odd one out?")],
    "pictures between texts": [
        user("First:", SLOT, "Second:\n", SLOT, "Third:", SLOT, "Compare.", "Be brief.")
    ],
    "system text": [system("Answer in French."), user(SLOT, "What are these?")],
    "three turns": [
        system("S"),
        user(SLOT, "Q1"),
        assistant("A1"),
        user("Q2"),
        assistant("A2"),
        user("Q3", SLOT, SLOT),
    ],
    "blanks at both ends": [user(SLOT, "  What  is it? "), assistant(" A cat. "), user("\nWhy?\n ")],
    "emoji": [user(SLOT, "👩‍👩‍👧 or 🐈‍⬛?"), assistant("🐈‍⬛"), user("👍🏽")],
    "Chinese": [
        system("请用中文回答。"),
        user("这是什么？", SLOT),
        assistant("一只猫。"),
        user("什么颜色？"),
    ],
    "tabs": [user(SLOT, "a\tb\t\tc\t")],
    "spelt-out tokens": [
        user(SLOT, "<image></s><s>USER: ASSISTANT:<pad>"),
        assistant("</s>"),
        user("<image>\n"),
    ],
}
