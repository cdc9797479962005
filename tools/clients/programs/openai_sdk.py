"""OpenAI's own Python package: chat, both ways; the Responses API is in tests/engine."""

import openai
from offered import TOOL
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, CIRCLE, KEY, LIMITED, LONG, MODEL, QUESTION, URL, asked, expect, leaving, raises, run
from shared import twice

client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)


class Shape(BaseModel):
    count: int = Field(ge=0, le=9)


def whole() -> None:
    reply = client.chat.completions.create(model=MODEL, messages=[asked()], temperature=0)
    expect(reply.choices[0].message.content, ANSWER)


def streamed() -> None:
    stream = client.chat.completions.create(model=MODEL, messages=[asked()], temperature=0, stream=True)
    expect("".join(chunk.choices[0].delta.content or "" for chunk in stream), ANSWER)


def turns() -> None:
    first = client.chat.completions.create(model=MODEL, messages=[asked()], temperature=0)
    messages = [asked(), first.choices[0].message.model_dump(), {"role": "user", "content": "What colour is the star?"}]
    reply = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    expect(reply.choices[0].message.content, "Red.")


def structured() -> None:
    reply = client.chat.completions.parse(
        model=MODEL, messages=[asked()], temperature=0, response_format=Shape, max_tokens=64
    )
    assert isinstance(reply.choices[0].message.parsed, Shape)


def tool() -> None:
    reply = client.chat.completions.create(
        model=MODEL, messages=[asked()], temperature=0, tools=[TOOL], tool_choice="required"
    )
    (call,) = reply.choices[0].message.tool_calls
    expect(call.function.name, "note")


def errors() -> None:
    def ask(client: openai.OpenAI = client, **fields: object) -> object:
        return client.chat.completions.create(**{"model": MODEL, "messages": [asked()], **fields})

    raises(openai.BadRequestError, lambda: ask(n=0))
    raises(openai.NotFoundError, lambda: ask(model="no-such"))
    raises(openai.AuthenticationError, client.with_options(api_key="sk-wrong").models.list)
    limited = client.with_options(api_key=LIMITED)
    raises(openai.RateLimitError, lambda: twice(lambda: ask(limited)))
    raises(openai.InternalServerError, lambda: ask(client.with_options(base_url=AWAY)))


def abort() -> None:
    with leaving(), client.chat.completions.create(
        model=MODEL, messages=[asked(QUESTION, CIRCLE)], stream=True, max_tokens=2000, extra_body=LONG
    ) as stream:
        next(iter(stream))


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
