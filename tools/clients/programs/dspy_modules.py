"""dspy: its language model with a picture in the messages, typed signatures, a tool, and streams."""

import asyncio

import dspy
from offered import TOOL
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, STAR, URL, asked, expect, leaving, raises, run, twice

OPTIONS = {"api_base": URL, "api_key": KEY, "temperature": 0, "max_tokens": 64, "cache": False, "num_retries": 0}
lm = dspy.LM(f"openai/{MODEL}", **OPTIONS)


class Shape(BaseModel):
    count: int = Field(ge=0, le=9)


def text(reply: object) -> str:
    first = reply[0]
    return first if isinstance(first, str) else first["text"]


def whole() -> None:
    expect(text(lm(messages=[asked()])), ANSWER)


def turns() -> None:
    first = {"role": "assistant", "content": text(lm(messages=[asked()]))}
    reply = lm(messages=[asked(), first, {"role": "user", "content": "What colour is the star?"}])
    expect(text(reply), "Red.")


class See(dspy.Signature):
    """Look at the image."""

    image: dspy.Image = dspy.InputField()
    shape: Shape = dspy.OutputField()


def see(**config: object) -> dspy.Predict:
    # dspy does not know the model, so the schema is told here.
    schema = {
        "type": "object",
        "properties": {"shape": Shape.model_json_schema()},
        "required": ["shape"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "See", "strict": True, "schema": schema}}
    return dspy.Predict(See, response_format=form, **config)


def structured() -> None:
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        assert isinstance(see()(image=dspy.Image(STAR)).shape, Shape)


async def streamed() -> None:
    pieces = 0
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        async for piece in dspy.streamify(see())(image=dspy.Image(STAR)):
            if isinstance(piece, dspy.Prediction):
                assert isinstance(piece.shape, Shape)
            else:
                pieces += 1
    assert pieces > 1, pieces


async def leave() -> None:
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        program = dspy.Predict(See, max_tokens=2000, extra_body=LONG)
        stream = dspy.streamify(program, is_async_program=True)(image=dspy.Image(STAR))
        await anext(stream)
        await stream.aclose()


def abort() -> None:
    with leaving():
        asyncio.run(leave())


def tool() -> None:
    (reply,) = lm(messages=[asked()], tools=[TOOL], tool_choice="required")
    (call,) = reply["tool_calls"]
    expect(call["function"]["name"] if isinstance(call, dict) else call.function.name, "note")


def errors() -> None:
    def asking(model: str = MODEL, **options: object) -> object:
        return dspy.LM(f"openai/{model}", **(OPTIONS | options))("x")

    raises(dspy.LMInvalidRequestError, lambda: asking(temperature=3))
    raises(dspy.LMAuthError, lambda: asking(api_key="sk-wrong"))
    raises(dspy.LMError, lambda: asking("no-such"))
    raises(dspy.LMRateLimitError, lambda: twice(lambda: asking(api_key=LIMITED)))
    raises(dspy.LMServerError, lambda: asking(api_base=AWAY))


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
