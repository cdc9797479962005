"""llama-index's OpenAILike."""

import openai
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, QUESTION, STAR, URL, expect, image_bytes, leaving, raises
from shared import run, twice

OPTIONS = {
    "api_base": URL,
    "api_key": KEY,
    "is_chat_model": True,
    "is_function_calling_model": True,
    "temperature": 0,
    "max_retries": 0,
    "max_tokens": 64,
    "context_window": 4096,
}
llm = OpenAILike(model=MODEL, **OPTIONS)
ASKED = ChatMessage(
    role="user", blocks=[ImageBlock(image=image_bytes(STAR), image_mimetype="image/png"), TextBlock(text=QUESTION)]
)


class Shape(BaseModel):
    """How many shapes there are."""

    count: int = Field(ge=0, le=9)


def note(count: int) -> str:
    """Note how many shapes there are."""
    return str(count)


def whole() -> None:
    expect(llm.chat([ASKED]).message.content, ANSWER)


def streamed() -> None:
    expect("".join(piece.delta or "" for piece in llm.stream_chat([ASKED])), ANSWER)


def turns() -> None:
    first = llm.chat([ASKED]).message
    reply = llm.chat([ASKED, first, ChatMessage(role="user", content="What colour is the star?")])
    expect(reply.message.content, "Red.")


def structured() -> None:
    reply = llm.as_structured_llm(Shape).chat([ASKED])
    assert isinstance(reply.raw, Shape)


def tool() -> None:
    reply = llm.chat_with_tools([FunctionTool.from_defaults(note)], user_msg=ASKED, tool_required=True)
    (call,) = llm.get_tool_calls_from_response(reply)
    expect(call.tool_name, "note")


def errors() -> None:
    raises(openai.NotFoundError, lambda: OpenAILike(model="no-such", **OPTIONS).chat([ASKED]))
    wrong = OpenAILike(model=MODEL, **(OPTIONS | {"api_key": "sk-wrong"}))
    raises(openai.AuthenticationError, lambda: wrong.chat([ASKED]))
    raises(openai.BadRequestError, lambda: llm.chat([ASKED], n=0))
    limited = OpenAILike(model=MODEL, **(OPTIONS | {"api_key": LIMITED}))
    raises(openai.RateLimitError, lambda: twice(lambda: limited.chat([ASKED])))
    away = OpenAILike(model=MODEL, **(OPTIONS | {"api_base": AWAY}))
    raises(openai.InternalServerError, lambda: away.chat([ASKED]))


def abort() -> None:
    long = OpenAILike(model=MODEL, **(OPTIONS | {"max_tokens": 2000}))  # it takes none with a request
    with leaving():
        stream = long.stream_chat([ASKED], extra_body=LONG)
        next(stream)
        stream.close()
        del stream


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
