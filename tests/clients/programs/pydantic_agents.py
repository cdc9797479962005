"""pydantic-ai, through both doors: chat completions and responses."""

from pydantic import BaseModel, Field
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from shared import ANSWER, KEY, MODEL, QUESTION, STAR, URL, expect, image_bytes, raises, run

SETTINGS = {"temperature": 0.0, "max_tokens": 128}
DOORS = (OpenAIChatModel, OpenAIResponsesModel)
ASKED = [QUESTION, BinaryContent(image_bytes(STAR), media_type="image/png")]


class Shape(BaseModel):
    """How many shapes there are."""

    count: int = Field(ge=0, le=9)


def agent(door: type, model: str = MODEL, key: str = KEY, **options: object) -> Agent:
    chosen = door(model, provider=OpenAIProvider(base_url=URL, api_key=key))
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
        assert isinstance(agent(door, output_type=Shape).run_sync(ASKED).output, Shape)


def errors() -> None:
    for door in DOORS:
        raises(ModelHTTPError, lambda door=door: agent(door, "no-such").run_sync(ASKED))
        raises(ModelHTTPError, lambda door=door: agent(door, key="sk-wrong").run_sync(ASKED))


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, errors=errors))
