"""haystack's OpenAIChatGenerator."""

import openai
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, ImageContent
from haystack.tools import Tool
from haystack.utils import Secret
from offered import TOOL
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, QUESTION, STAR, URL, expect, leaving, raises, run, twice


def generator(model: str = MODEL, key: str = KEY, url: str = URL, **options: object) -> OpenAIChatGenerator:
    return OpenAIChatGenerator(
        model=model,
        api_base_url=url,
        api_key=Secret.from_token(key),
        max_retries=0,
        generation_kwargs={"temperature": 0, "max_tokens": 64, **options},
    )


IMAGE = ImageContent(base64_image=STAR.partition(",")[2], mime_type="image/png")
ASKED = ChatMessage.from_user(content_parts=[QUESTION, IMAGE])


class Shape(BaseModel):
    count: int = Field(ge=0, le=9)


def whole() -> None:
    expect(generator().run([ASKED])["replies"][0].text, ANSWER)


def streamed() -> None:
    pieces: list[str] = []
    generator().run([ASKED], streaming_callback=lambda chunk: pieces.append(chunk.content))
    expect("".join(pieces), ANSWER)


def turns() -> None:
    first = generator().run([ASKED])["replies"][0]
    reply = generator().run([ASKED, first, ChatMessage.from_user("What colour is the star?")])
    expect(reply["replies"][0].text, "Red.")


def structured() -> None:
    reply = generator(response_format=Shape).run([ASKED])
    Shape.model_validate_json(reply["replies"][0].text)


def tool() -> None:
    told = TOOL["function"]
    offered = Tool(
        name=told["name"], description=told["description"], parameters=told["parameters"], function=lambda count: count
    )
    reply = generator(tool_choice="required").run([ASKED], tools=[offered])["replies"][0]
    expect(reply.tool_call.tool_name, "note")


def errors() -> None:
    raises(openai.NotFoundError, lambda: generator("no-such").run([ASKED]))
    raises(openai.AuthenticationError, lambda: generator(key="sk-wrong").run([ASKED]))
    raises(openai.BadRequestError, lambda: generator(n=0).run([ASKED]))
    raises(openai.RateLimitError, lambda: twice(lambda: generator(key=LIMITED).run([ASKED])))
    raises(openai.InternalServerError, lambda: generator(url=AWAY).run([ASKED]))


class Enough(Exception):
    pass


def abort() -> None:
    def stop(chunk: object) -> None:
        raise Enough

    # A callback that raises is how a streamed run is stopped.
    with leaving():
        raises(Enough, lambda: generator(max_tokens=2000, extra_body=LONG).run([ASKED], streaming_callback=stop))


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort))
