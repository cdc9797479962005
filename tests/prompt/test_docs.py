"""docs/prompts.md shows what the styles write."""

import json
import re
from pathlib import Path

import pytest

from gateway.prompt.styles import STYLES
from gateway.prompt.template import SLOT, PromptMessage, Slot, render
from tests.prompt.conversations import written

PAGE = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## `(\w+)`.*?^```text\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE))


def the_conversation() -> list[PromptMessage]:
    found = re.search(r"^```json\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    messages = []
    for message in json.loads(found[1]):
        content = message["content"]
        parts: tuple[str | Slot, ...] = (content,)
        if isinstance(content, list):
            parts = tuple(part["text"] if part["type"] == "text" else SLOT for part in content)
        messages.append(PromptMessage(message["role"], parts))
    return messages


def test_the_page_shows_every_style() -> None:
    assert EXAMPLES.keys() == STYLES.keys()


@pytest.mark.parametrize("style", STYLES)
def test_the_page_shows_what_the_style_writes(style: str) -> None:
    assert written(render(the_conversation(), STYLES[style])) == EXAMPLES[style]
