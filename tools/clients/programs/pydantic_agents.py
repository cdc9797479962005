"""pydantic-ai, through both doors: chat completions and responses."""

from collections.abc import Callable

import openai
from pydantic import BaseModel, Field
from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, QUESTION, STAR, URL, expect, image_bytes, leaving, run
from shared import twice

SETTINGS = {"temperature": 0.0, "max_tokens": 128}
DOORS = (OpenAIChatModel, OpenAIResponsesModel)
ASKED = [QUESTION, BinaryContent(image_bytes(STAR), media_type="image/png")]


class Shape(BaseModel):
    """How many shapes there are."""

    count: int = Field(ge=0, le=9)


def agent(door: type, model: str = MODEL, key: str = KEY, url: str = URL, **options: object) -> Agent:
    chosen = door(model, provider=OpenAIProvider(openai_client=openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0)))
    return Agent(chosen, model_settings=SETTINGS, retries=0, **options)


def whole() -> None:
    for door in DOORS:
        expect(agent(door).run_sync(ASKED).output, ANSWER)


async def streamed() -> None:
    for door in DOORS:
        async with agent(door).run_stream(ASKED) as reply:
            expect("".join([piece async for piece in reply.stream_text(delta=True)]), ANSWER)


def turns() -> None:
    for door in DOORS:
        first = agent(door).run_sync(ASKED)
        reply = agent(door).run_sync("What colour is the star?", message_history=first.all_messages())
        expect(reply.output, "Red.")


def structured() -> None:
    for door in DOORS:
        assert isinstance(agent(door, output_type=NativeOutput(Shape)).run_sync(ASKED).output, Shape)


def tool() -> None:
    for door in DOORS:
        # The default way to typed output: a tool that must be called.
        reply = agent(door, output_type=ToolOutput(Shape, name="note")).run_sync(ASKED)
        assert isinstance(reply.output, Shape)
        calls = [part for message in reply.all_messages() for part in message.parts if part.part_kind == "tool-call"]
        expect([call.tool_name for call in calls], ["note"])


def fails(status: int, call: Callable[[], object]) -> None:
    try:
        call()
    except ModelHTTPError as error:
        expect(error.status_code, status)
    else:
        raise AssertionError("nothing was raised")


def errors() -> None:
    for door in DOORS:
        fails(400, lambda door=door: agent(door).run_sync(ASKED, model_settings={"temperature": 3.0}))
        fails(404, lambda door=door: agent(door, "no-such").run_sync(ASKED))
        fails(401, lambda door=door: agent(door, key="sk-wrong").run_sync(ASKED))
        fails(429, lambda door=door: twice(lambda: agent(door, key=LIMITED).run_sync(ASKED)))
        fails(503, lambda door=door: agent(door, url=AWAY).run_sync(ASKED))


async def abort() -> None:
    for door in DOORS:
        settings = {"max_tokens": 2000, "extra_body": LONG}
        with leaving():
            async with agent(door).run_stream(ASKED, model_settings=settings) as reply:
                async for _ in reply.stream_text(delta=True):
                    break


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
