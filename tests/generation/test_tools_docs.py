"""docs/tools.md shows the prompt as it is."""

from pathlib import Path

from gateway.generation import tools
from gateway.generation.request import GenerationRequest, InputMessage, Tool, ToolCall
from gateway.prompt.styles import CARD
from gateway.prompt.template import END, PromptMessage, render

PAGE = (Path(__file__).parents[2] / "docs/tools.md").read_text(encoding="utf-8")
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def test_the_page_shows_what_the_prompt_tells_of_a_tool() -> None:
    asked = GenerationRequest("id", "m", (), "caller")
    weather = Tool("get_weather", "Get the weather.", CITY, "tools[0].function")
    offer = tools.offer((weather,), asked, len, 1000)
    assert offer is not None
    assert f"```text\n{offer.text}\n```" in PAGE


def test_the_page_shows_a_turn_with_a_tool() -> None:
    messages = tools.as_text(
        (
            InputMessage("user", ("Is it warm?",), ""),
            InputMessage("assistant", (), "", (ToolCall("c", "get_weather", '{"city": "Paris"}'),)),
            InputMessage("tool", ("12 degrees",), "", tool_call_id="c"),
        )
    )
    said = [
        PromptMessage("assistant" if message.role == "assistant" else "user", tuple(map(str, message.parts)))
        for message in messages
    ]
    prompt = "".join("</s>" if segment is END else str(segment) for segment in render(said, CARD))
    assert f"```text\n{prompt}\n```" in PAGE
