"""openai-agents, through both doors; Responses is its default."""

from typing import Annotated

import openai
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from agents import set_tracing_disabled
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, QUESTION, STAR, URL, expect, leaving, raises, run, twice

set_tracing_disabled(True)
DOORS = (OpenAIChatCompletionsModel, OpenAIResponsesModel)
ASKED = [
    {
        "role": "user",
        "content": [
            {"type": "input_image", "image_url": STAR, "detail": "auto"},
            {"type": "input_text", "text": QUESTION},
        ],
    }
]


class Shape(BaseModel):
    """How many shapes there are."""

    count: int = Field(ge=0, le=9)


noted: list[int] = []


@function_tool
def note(count: Annotated[int, Field(ge=0, le=9)]) -> str:
    """Note how many shapes there are."""
    noted.append(count)
    return "done"


def agent(door: type, model: str = MODEL, key: str = KEY, url: str = URL, **options: object) -> Agent:
    client = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0)
    settings = ModelSettings(**({"temperature": 0, "max_tokens": 128} | options.pop("settings", {})))
    return Agent(name="seer", model=door(model, client), model_settings=settings, **options)


def whole() -> None:
    for door in DOORS:
        expect(Runner.run_sync(agent(door), ASKED).final_output, ANSWER)


async def streamed() -> None:
    for door in DOORS:
        reply = Runner.run_streamed(agent(door), ASKED)
        async for _ in reply.stream_events():
            pass
        expect(reply.final_output, ANSWER)


def turns() -> None:
    for door in DOORS:
        first = Runner.run_sync(agent(door), ASKED)
        again = [*first.to_input_list(), {"role": "user", "content": "What colour is the star?"}]
        expect(Runner.run_sync(agent(door), again).final_output, "Red.")


def structured() -> None:
    for door in DOORS:
        assert isinstance(Runner.run_sync(agent(door, output_type=Shape), ASKED).final_output, Shape)


def tool() -> None:
    for door in DOORS:
        noted.clear()
        chosen = agent(door, tools=[note], settings={"tool_choice": "required"}, tool_use_behavior="stop_on_first_tool")
        expect(Runner.run_sync(chosen, ASKED).final_output, "done")
        expect(len(noted), 1)


def errors() -> None:
    for door in DOORS:
        raises(openai.NotFoundError, lambda door=door: Runner.run_sync(agent(door, "no-such"), ASKED))
        raises(openai.AuthenticationError, lambda door=door: Runner.run_sync(agent(door, key="sk-wrong"), ASKED))
        bad = {"temperature": 3}
        raises(openai.BadRequestError, lambda door=door: Runner.run_sync(agent(door, settings=bad), ASKED))
        limited = agent(door, key=LIMITED)
        raises(openai.RateLimitError, lambda limited=limited: twice(lambda: Runner.run_sync(limited, ASKED)))
        away = agent(door, url=AWAY)
        raises(openai.InternalServerError, lambda away=away: Runner.run_sync(away, ASKED))


async def abort() -> None:
    for door in DOORS:
        with leaving():
            reply = Runner.run_streamed(agent(door, settings={"max_tokens": 2000, "extra_body": LONG}), ASKED)
            async for event in reply.stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    reply.cancel()


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
