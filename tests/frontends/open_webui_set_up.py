"""Open WebUI set up as docs/frontends.md says: without its tools, its tasks asked for as JSON."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.frontends.pictures import QUESTION, RIGHT, TURNS
from tests.frontends.processes import Frontend
from tests.frontends.webui import answered, ask, asked_in_first_turn, open_webui, opened
from tests.servers import Gateway, until

SETTINGS = {
    "DEFAULT_MODEL_METADATA": '{"capabilities": {"builtin_tools": false}}',
    "TASK_MODEL_PARAMS": Path(__file__).with_name("task_format.json").read_text(),
}


@pytest.fixture(scope="module")
async def webui(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Frontend]:
    async with open_webui(gateway, tmp_path_factory.mktemp("open-webui"), **SETTINGS) as running:
        yield running


async def test_ten_turns_with_a_new_picture_each_are_answered_right(
    page: Page, webui: Frontend, shots: Path
) -> None:
    answers = await opened(page, webui)
    for turn, ((kind, colour), right) in enumerate(zip(TURNS, RIGHT, strict=True), 1):
        await ask(page, kind, colour)
        asked = await answered(webui, turn)
        assert (asked.status, asked.text.strip()) == (200, right)
        await expect(answers.last).to_have_text(right, timeout=30_000)
        await expect(page.locator("#continue-response-button")).to_be_visible(timeout=60_000)
    await page.screenshot(path=shots / "open-webui.png")
    last = webui.chats[-1].request
    assert "tools" not in last
    assert last["messages"][-1]["content"][0] == {"type": "text", "text": QUESTION}


async def test_the_tasks_of_a_first_turn_are_answered_in_json(page: Page, webui: Frontend) -> None:
    await until(lambda: webui.recorder.idle, 60)
    asked = await asked_in_first_turn(page, webui)
    said = {name: json.loads(one.text) for name, one in asked.items()}
    # What a person sees of it: the title of the chat, and the questions that could follow.
    await expect(page.get_by_role("heading", level=1)).to_have_text(said["title"]["title"].strip())
    first, *_ = said["follow-ups"]["follow_ups"]
    await expect(page.get_by_role("button", name=f"Follow up: {first.strip()}")).to_be_visible()
