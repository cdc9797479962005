"""smolagents' OpenAIServerModel; its agents force a tool at every step."""

import io

import openai
from PIL import Image
from shared import ANSWER, KEY, MODEL, QUESTION, STAR, URL, expect, image_bytes, raises, run
from smolagents import OpenAIModel, Tool
from smolagents.models import ChatMessage, MessageRole

model = OpenAIModel(model_id=MODEL, api_base=URL, api_key=KEY, temperature=0, max_tokens=64)
PICTURE = Image.open(io.BytesIO(image_bytes(STAR)))


def said(*parts: dict[str, object]) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=list(parts))


ASKED = said({"type": "image", "image": PICTURE}, {"type": "text", "text": QUESTION})


class Note(Tool):
    name = "note"
    description = "Notes how many shapes there are."
    inputs = {"count": {"type": "integer", "description": "How many."}}
    output_type = "string"

    def forward(self, count: int) -> str:
        return str(count)


def whole() -> None:
    expect(model.generate([ASKED]).content, ANSWER)


def streamed() -> None:
    expect("".join(delta.content or "" for delta in model.generate_stream([ASKED])), ANSWER)


def turns() -> None:
    first = model.generate([ASKED])
    again = said({"type": "text", "text": "What colour is the star?"})
    expect(model.generate([ASKED, first, again]).content, "Red.")


def tool() -> None:
    (call,) = model.generate([ASKED], tools_to_call_from=[Note()]).tool_calls
    expect(call.function.name, "note")


def errors() -> None:
    wrong = OpenAIModel(model_id=MODEL, api_base=URL, api_key="sk-wrong", client_kwargs={"max_retries": 0})
    raises(openai.AuthenticationError, lambda: wrong.generate([ASKED]))
    unknown = OpenAIModel(model_id="no-such", api_base=URL, api_key=KEY, client_kwargs={"max_retries": 0})
    raises(openai.NotFoundError, lambda: unknown.generate([ASKED]))


run(dict(whole=whole, streamed=streamed, turns=turns, tool=tool, errors=errors))
