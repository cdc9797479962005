"""Gradio's `gr.load_chat`, driven as a person does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests import environments
from tests.frontends import engine, pictures
from tests.frontends.conftest import KEY
from tests.frontends.pictures import QUESTION, TURNS
from tests.frontends.processes import Frontend, serving
from tests.frontends.recording import recording
from tests.servers import Gateway, until, wait_until_ready

PROGRAM = Path(__file__).with_name("programs") / "gradio_chat.py"


@pytest.fixture(scope="module")
async def chat(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Frontend]:
    """Yield Gradio's chat with the gateway behind it."""
    python = (
        environments.python(environments.FRONTENDS / "gradio", "gradio==6.31.0", "openai==3.57.0")
        / "bin/python"
    )
    folder = tmp_path_factory.mktemp("gradio")
    async with recording(gateway.url) as recorder:
        environment = {
            "BASE_URL": recorder.api,
            "API_KEY": KEY,
            "PORT": "{port}",
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        async with serving([str(python), str(PROGRAM)], recorder, folder, **environment) as running:
            yield running


async def opened(page: Page, chat: Frontend) -> Locator:
    """Open the chat; return its answers."""
    await page.set_viewport_size({"width": 900, "height": 760})
    await page.goto(chat.url)
    await page.get_by_test_id("textbox").wait_for()
    return page.locator(".bot.message")


async def ready(page: Page) -> None:
    """Wait for the input. After an answer the page still sets it back, and with it what came too early."""
    await expect(page.get_by_test_id("submit-button")).to_be_visible(timeout=60_000)
    await expect(page.get_by_test_id("textbox")).to_be_enabled(timeout=60_000)
    await page.wait_for_timeout(500)


async def ask(page: Page, kind: str, colour: str) -> None:
    await ready(page)
    await page.get_by_test_id("file-upload").set_input_files(pictures.file(kind, colour))
    await expect(page.locator(".thumbnail-item")).to_have_count(1)
    await page.get_by_test_id("textbox").fill(QUESTION)
    await expect(page.locator(".thumbnail-item")).to_have_count(1)
    await page.get_by_test_id("textbox").press("Enter")


async def say(page: Page, words: str) -> None:
    await ready(page)
    await page.get_by_test_id("textbox").fill(words)
    await page.get_by_test_id("textbox").press("Enter")


async def test_ten_turns_with_a_new_picture_each(page: Page, chat: Frontend, shots: Path) -> None:
    answers = await opened(page, chat)
    for place, (kind, colour) in enumerate(TURNS):
        await ask(page, kind, colour)
        await expect(answers).to_have_count(place + 1, timeout=60_000)
        await expect(answers.last).to_contain_text(f"{colour} {kind}", timeout=60_000)
    await page.screenshot(path=shots / "gradio.png")
    assert [one.status for one in chat.recorder.exchanges] == [200] * len(TURNS)
    assert str(chat.recorder.exchanges[-1].request).count("'image_url':") == len(TURNS)


async def test_stop_ends_what_the_page_shows(page: Page, chat: Frontend) -> None:
    answers = await opened(page, chat)
    # The demo model's answers are too short to be stopped.
    chat.recorder.fields = {"ignore_eos": True, "max_tokens": 3500}
    try:
        await ask(page, "square", "green")
        await expect(answers.last).to_contain_text("green square", timeout=60_000)
        await page.locator(".stop-button").click()
    finally:
        chat.recorder.fields = {}
    await expect(page.get_by_test_id("submit-button")).to_be_visible()
    text = await answers.last.inner_text()
    await page.wait_for_timeout(1000)
    assert await answers.last.inner_text() == text
    # A stopped chat goes on, also while Gradio still reads the answer that was stopped.
    await ask(page, "star", "red")
    await expect(answers.last).to_contain_text("A red star.", timeout=60_000)


async def test_retry_asks_again_for_a_message_of_words(page: Page, chat: Frontend) -> None:
    answers = await opened(page, chat)
    await say(page, "Who are you?")
    await expect(answers.last).to_contain_text("demo model", timeout=60_000)
    count = len(chat.chats)
    await ready(page)
    await page.get_by_label("Retry").last.click()
    await until(lambda: len(chat.chats) > count and chat.chats[-1].whole, 60)
    assert chat.chats[-1].request["messages"] == chat.chats[-2].request["messages"]
    await expect(answers.last).to_contain_text("demo model", timeout=60_000)


async def test_retry_of_a_message_with_a_picture_fails_in_gradio(page: Page, chat: Frontend) -> None:
    # Gradio's `_pop_last_user_message` gives files as dicts; its `format_conversation` wants their paths.
    answers = await opened(page, chat)
    await ask(page, "star", "blue")
    await expect(answers.last).to_contain_text("A blue star.", timeout=60_000)
    count = len(chat.chats)
    await ready(page)
    await page.get_by_label("Retry").last.click()
    await expect(page.get_by_test_id("toast-body")).to_contain_text("object has no attribute 'lower")
    assert len(chat.chats) == count


async def test_what_a_person_reads_while_the_engine_is_away(
    page: Page, chat: Frontend, gateway: Gateway, shots: Path
) -> None:
    answers = await opened(page, chat)
    engine.kill(gateway)
    await ask(page, "triangle", "red")
    await expect(page.get_by_test_id("toast-body")).to_be_visible(timeout=60_000)
    await expect(page.get_by_test_id("toast-body")).to_contain_text("the engine is starting: ")
    await page.wait_for_timeout(700)  # it fades in
    await page.screenshot(path=shots / "gradio-error.png")
    assert chat.recorder.exchanges[-1].status == 503
    await asyncio.to_thread(wait_until_ready, gateway)
    await page.reload()
    await ask(page, "triangle", "red")
    await expect(answers.last).to_contain_text("red triangle", timeout=60_000)
