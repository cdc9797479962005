"""langchain-openai: ChatOpenAI with its own message and image forms."""

import openai
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, QUESTION, STAR, URL, expect, leaving, raises, run, twice

chat = ChatOpenAI(base_url=URL, api_key=KEY, model=MODEL, temperature=0, max_retries=0, max_tokens=64)
IMAGE = {"type": "image", "base64": STAR.partition(",")[2], "mime_type": "image/png"}
ASKED = HumanMessage(content=[{"type": "text", "text": QUESTION}, IMAGE])


class note(BaseModel):  # noqa: N801
    """Notes how many shapes there are."""

    count: int = Field(ge=0, le=9)


def whole() -> None:
    expect(chat.invoke([ASKED]).content, ANSWER)


def streamed() -> None:
    expect("".join(piece.content for piece in chat.stream([ASKED])), ANSWER)


def turns() -> None:
    first = chat.invoke([ASKED])
    expect(chat.invoke([ASKED, first, HumanMessage("What colour is the star?")]).content, "Red.")


def structured() -> None:
    assert isinstance(chat.with_structured_output(note).invoke([ASKED]), note)


def tool() -> None:
    (call,) = chat.bind_tools([note], tool_choice="note").invoke([ASKED]).tool_calls
    expect(call["name"], "note")


def errors() -> None:
    raises(openai.NotFoundError, lambda: chat.model_copy(update={"model_name": "no-such"}).invoke("x"))
    wrong = ChatOpenAI(base_url=URL, api_key="sk-wrong", model=MODEL, max_retries=0)
    raises(openai.AuthenticationError, lambda: wrong.invoke("x"))
    raises(openai.BadRequestError, lambda: chat.bind(n=0).invoke("x"))
    limited = ChatOpenAI(base_url=URL, api_key=LIMITED, model=MODEL, max_retries=0)
    raises(openai.RateLimitError, lambda: twice(lambda: limited.invoke("x")))
    away = ChatOpenAI(base_url=AWAY, api_key=KEY, model=MODEL, max_retries=0)
    raises(openai.InternalServerError, lambda: away.invoke("x"))


def abort() -> None:
    with leaving():
        stream = chat.bind(max_tokens=2000, extra_body=LONG).stream([ASKED])
        next(stream)
        stream.close()


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
