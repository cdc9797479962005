"""Open WebUI at its defaults, driven as a person does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests import rendered
from tests.frontends import engine
from tests.frontends.conftest import KEY
from tests.frontends.pictures import QUESTION, RIGHT, TURNS
from tests.frontends.processes import Frontend
from tests.frontends.webui import TASKS, answered, ask, asked_in_first_turn, open_webui, opened, try_again
from tests.servers import Gateway, until, wait_until_ready


@pytest.fixture(scope="module")
async def webui(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Frontend]:
    async with open_webui(gateway, tmp_path_factory.mktemp("open-webui")) as running:
        yield running


async def test_the_tasks_of_a_first_turn_are_answered(page: Page, webui: Frontend) -> None:
    asked = await asked_in_first_turn(page, webui)
    assert {name: one.status for name, one in asked.items()} == dict.fromkeys(TASKS, 200)
    # The demo model knows no JSON. What Open WebUI cannot read it leaves out: the title is the question.
    assert "{" not in asked["title"].text
    await expect(page.get_by_role("heading", level=1)).to_have_text(QUESTION)
    await expect(page.get_by_role("button", name="Follow up: ")).to_have_count(0)


async def test_ten_turns_with_a_new_picture_each(page: Page, webui: Frontend, gateway: Gateway) -> None:
    answers = await opened(page, webui)
    before = len(webui.chats)
    for turn, (kind, colour) in enumerate(TURNS, 1):
        await ask(page, kind, colour)
        asked = await answered(webui, before + turn)
        # The page keeps only the latest messages, so they cannot be counted.
        await expect(answers.last).to_have_text(asked.text.strip(), timeout=30_000)
        assert await rendered.pictures(gateway, asked.request, KEY) == rendered.newest(TURNS[:turn])
        await expect(page.locator("#continue-response-button")).to_be_visible(timeout=60_000)
    chats = webui.chats[before:]
    assert [one.text.strip() for one in chats] == RIGHT
    await until(lambda: webui.recorder.idle, 60)
    assert [one.status for one in chats] == [200] * len(TURNS)
    last = chats[-1].request
    assert (len(last["tools"]), "tool_choice" in last) == (36, False)
    assert str(last["messages"]).count("'image_url'") >= len(TURNS)
    assert str(last["messages"]).count("<attached_files>") == len(TURNS)


async def test_stop_continue_and_try_again(page: Page, webui: Frontend, gateway: Gateway) -> None:
    answers = await opened(page, webui)
    # The demo model's answers are too short to be stopped.
    webui.recorder.fields = {"ignore_eos": True, "max_tokens": 3500}
    try:
        await ask(page, "square", "green")
        await expect(answers.last).to_contain_text("A ", timeout=60_000)
        await page.get_by_label("Stop", exact=True).click()
        stopped = webui.chats[-1]
        webui.recorder.fields = {}
        await expect(page.locator("#continue-response-button")).to_be_visible()
    finally:
        webui.recorder.fields = {}
    await engine.idle(gateway)
    assert not stopped.whole
    count = len(webui.chats)
    await page.locator("#continue-response-button").click()
    continued = await answered(webui, count + 1)
    assert (continued.status, continued.request["messages"][-1]["role"]) == (200, "assistant")
    await try_again(page)
    again = await answered(webui, count + 2)
    assert (again.status, again.request["messages"][-1]["role"]) == (200, "user")
    await expect(answers.last).to_have_text(again.text.strip())


async def test_what_a_person_reads_while_the_engine_is_away(
    page: Page, webui: Frontend, gateway: Gateway, shots: Path
) -> None:
    answers = await opened(page, webui)
    await page.wait_for_timeout(1000)
    engine.kill(gateway)
    await ask(page, "triangle", "red")
    await expect(answers.last).to_contain_text("the engine is starting: ", timeout=30_000)
    await page.screenshot(path=shots / "open-webui-error.png")
    await asyncio.to_thread(wait_until_ready, gateway)
    count = len(webui.chats)
    await try_again(page)
    again = await answered(webui, count + 1)
    assert again.status == 200
    await expect(answers.last).to_have_text(again.text.strip())
    assert await rendered.pictures(gateway, again.request, KEY) == rendered.newest([("triangle", "red")])
