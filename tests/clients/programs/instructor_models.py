"""instructor, in its three ways to typed output."""

import instructor
import openai
from pydantic import BaseModel, Field
from shared import KEY, MODEL, URL, asked, raises, run


class Shape(BaseModel):
    """How many shapes there are."""

    count: int = Field(ge=0, le=9)


def asking(mode: instructor.Mode, **fields: object) -> object:
    client = instructor.from_openai(openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0), mode=mode)
    options = {"model": MODEL, "messages": [asked()], "temperature": 0, "max_tokens": 64, "max_retries": 0}
    return client.chat.completions.create(response_model=Shape, **(options | fields))


def structured() -> None:
    assert isinstance(asking(instructor.Mode.JSON_SCHEMA), Shape)


def tool() -> None:
    assert isinstance(asking(instructor.Mode.TOOLS), Shape)


def errors() -> None:
    raises(Exception, lambda: asking(instructor.Mode.TOOLS, model="no-such"))


run(dict(structured=structured, tool=tool, errors=errors))
