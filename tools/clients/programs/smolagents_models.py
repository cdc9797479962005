"""smolagents' OpenAIServerModel; its agents force a tool at every step."""

import io

import openai
from PIL import Image
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, QUESTION, STAR, URL, expect, image_bytes, leaving, raises
from shared import run, twice
from smolagents import OpenAIModel, Tool
from smolagents.models import ChatMessage, MessageRole

model = OpenAIModel(model_id=MODEL, api_base=URL, api_key=KEY, temperature=0, max_tokens=64)
PICTURE = Image.open(io.BytesIO(image_bytes(STAR)))


def said(*parts: dict[str, object]) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=list(parts))


ASKED = said({"type": "image", "image": PICTURE}, {"type": "text", "text": QUESTION})


class Shape(BaseModel):
    count: int = Field(ge=0, le=9)


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


def structured() -> None:
    told = {"name": "shape", "schema": Shape.model_json_schema(), "strict": True}
    reply = model.generate([ASKED], response_format={"type": "json_schema", "json_schema": told})
    Shape.model_validate_json(reply.content)


def tool() -> None:
    (call,) = model.generate([ASKED], tools_to_call_from=[Note()]).tool_calls
    expect(call.function.name, "note")


def errors() -> None:
    once = {"client_kwargs": {"max_retries": 0}, "retry": False}
    wrong = OpenAIModel(model_id=MODEL, api_base=URL, api_key="sk-wrong", **once)
    raises(openai.AuthenticationError, lambda: wrong.generate([ASKED]))
    unknown = OpenAIModel(model_id="no-such", api_base=URL, api_key=KEY, **once)
    raises(openai.NotFoundError, lambda: unknown.generate([ASKED]))
    raises(openai.BadRequestError, lambda: model.generate([ASKED], n=0))
    limited = OpenAIModel(model_id=MODEL, api_base=URL, api_key=LIMITED, **once)
    raises(openai.RateLimitError, lambda: twice(lambda: limited.generate([ASKED])))
    away = OpenAIModel(model_id=MODEL, api_base=AWAY, api_key=KEY, **once)
    raises(openai.InternalServerError, lambda: away.generate([ASKED]))


def abort() -> None:
    with leaving():
        stream = model.generate_stream([ASKED], max_tokens=2000, extra_body=LONG)
        next(stream)
        stream.close()
        del stream


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
