"""instructor: typed output in two of its ways, and the answers that it passes on."""

import instructor
import openai
from instructor.core import InstructorRetryException
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, URL, asked, expect, leaving, run


class Shape(BaseModel):
    """How many shapes there are."""

    count: int = Field(ge=0, le=9)


def client(mode: instructor.Mode, url: str = URL, key: str = KEY) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=url, api_key=key, max_retries=0), mode=mode)


def options(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [asked()], "temperature": 0, "max_tokens": 64, "max_retries": 0, **fields}


def ask(mode: instructor.Mode, **fields: object) -> object:
    return client(mode).chat.completions.create(response_model=Shape, **options(**fields))


def plain(**fields: object) -> object:
    """Return the SDK's own answer: without a response model, instructor passes it on."""
    return client(instructor.Mode.JSON_SCHEMA).chat.completions.create(response_model=None, **options(**fields))


def whole() -> None:
    expect(plain().choices[0].message.content, ANSWER)


def streamed() -> None:
    expect("".join(chunk.choices[0].delta.content or "" for chunk in plain(stream=True)), ANSWER)
    *_, last = client(instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(response_model=Shape, **options())
    assert isinstance(last.count, int)


def turns() -> None:
    first = plain().choices[0].message.model_dump()
    reply = plain(messages=[asked(), first, {"role": "user", "content": "What colour is the star?"}])
    expect(reply.choices[0].message.content, "Red.")


def structured() -> None:
    assert isinstance(ask(instructor.Mode.JSON_SCHEMA), Shape)


def tool() -> None:
    assert isinstance(ask(instructor.Mode.TOOLS), Shape)


def errors() -> None:
    def fails(kind: type, url: str = URL, key: str = KEY, **fields: object) -> None:
        try:
            client(instructor.Mode.TOOLS, url, key).chat.completions.create(response_model=Shape, **options(**fields))
        except InstructorRetryException as error:  # it wraps what the SDK raised
            assert kind.__name__ in repr(error.__cause__), repr(error.__cause__)
        else:
            raise AssertionError(f"{kind} was not raised")

    fails(openai.BadRequestError, n=0)
    fails(openai.NotFoundError, model="no-such")
    fails(openai.AuthenticationError, key="sk-wrong")
    client(instructor.Mode.TOOLS, key=LIMITED).chat.completions.create(response_model=Shape, **options())
    fails(openai.RateLimitError, key=LIMITED)
    fails(openai.InternalServerError, AWAY)


def abort() -> None:
    with leaving():
        stream = plain(stream=True, max_tokens=2000, extra_body=LONG)
        next(iter(stream))
        stream.close()


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
