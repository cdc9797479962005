"""The style `hub` is what Hugging Face's own code makes of the hub's chat template for llava-1.5-7b-hf."""

from pathlib import Path

import pytest

from gateway.prompt.styles import HUB
from gateway.prompt.template import SLOT, PromptMessage, render
from tests.prompt.conversations import CONVERSATIONS, assistant, system, user, written

# chat_template.json of llava-hf/llava-1.5-7b-hf, word for word.
TEMPLATE = (Path(__file__).parent / "hub_chat_template.jinja").read_text(encoding="utf-8")

ODD_CONVERSATIONS = {
    "system text in the middle": [user("Q1"), assistant("A1"), system("S"), user("Q2")],
    "two system messages": [system("S1"), system("S2"), user("Q")],
    "system text last": [user("Q"), system("S")],
    "two users in a row": [user(SLOT, "Q1"), user("Q2", SLOT)],
    "two replies in a row": [user("Q1"), assistant("A1"), assistant("A2"), user("Q2")],
    "a greeting first": [assistant("Hello!"), user("Q")],
    "empty texts": [system(""), user("Q1"), assistant(""), user("", "Q2", "")],
    "no parts": [system(), user("Q1"), assistant(), user("Q2")],
}


def hugging_face_writes(messages: list[PromptMessage]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415  # Takes seconds.

    chat = [
        {
            "role": message.role,
            "content": [
                {"type": "image"} if part is SLOT else {"type": "text", "text": part}
                for part in message.parts
            ],
        }
        for message in messages
    ]
    rendered, _ = render_jinja_template([chat], chat_template=TEMPLATE, add_generation_prompt=True)
    (prompt,) = rendered
    return str(prompt)


@pytest.mark.engine
@pytest.mark.parametrize("name", [*CONVERSATIONS, *ODD_CONVERSATIONS])
def test_hub_is_what_hugging_face_renders(name: str) -> None:
    messages = (CONVERSATIONS | ODD_CONVERSATIONS)[name]
    assert written(render(messages, HUB)) == hugging_face_writes(messages)
