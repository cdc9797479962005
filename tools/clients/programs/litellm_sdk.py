"""litellm, the SDK."""

import litellm
from offered import TOOL
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, URL, asked, expect, leaving, raises, run, twice

litellm.suppress_debug_info = True


class Shape(BaseModel):
    count: int = Field(ge=0, le=9)


def ask(**fields: object) -> object:
    return litellm.completion(
        **{"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY, "messages": [asked()], "temperature": 0}
        | {"num_retries": 0, **fields}
    )


def whole() -> None:
    expect(ask().choices[0].message.content, ANSWER)


def streamed() -> None:
    expect("".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True)), ANSWER)


def turns() -> None:
    first = ask().choices[0].message
    reply = ask(messages=[asked(), first.model_dump(), {"role": "user", "content": "What colour is the star?"}])
    expect(reply.choices[0].message.content, "Red.")


def structured() -> None:
    reply = ask(response_format=Shape, max_tokens=64)
    Shape.model_validate_json(reply.choices[0].message.content)


def tool() -> None:
    (call,) = ask(tools=[TOOL], tool_choice="required").choices[0].message.tool_calls
    expect(call.function.name, "note")


def errors() -> None:
    raises(litellm.BadRequestError, lambda: ask(n=0))
    raises(litellm.NotFoundError, lambda: ask(model="openai/no-such"))
    raises(litellm.AuthenticationError, lambda: ask(api_key="sk-wrong"))
    raises(litellm.RateLimitError, lambda: twice(lambda: ask(api_key=LIMITED)))
    raises(litellm.ServiceUnavailableError, lambda: ask(api_base=AWAY))


def abort() -> None:
    with leaving():
        stream = ask(stream=True, max_tokens=2000, extra_body=LONG)
        next(iter(stream))
        stream.completion_stream.close()


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
