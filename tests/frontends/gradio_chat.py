"""Gradio's `gr.load_chat`, driven as a person does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import FilePayload, Locator, Page, expect

from tests.frontends import engine, environments
from tests.frontends.conftest import KEY
from tests.frontends.pictures import QUESTION, TURNS
from tests.frontends.processes import serving
from tests.frontends.recording import Recorder, recording
from tests.servers import Gateway, free_port, until, wait_until_ready
from tests.shapes import encoded

PROGRAM = Path(__file__).with_name("programs") / "gradio_chat.py"


@dataclass(frozen=True)
class Chat:
    url: str
    recorder: Recorder


@pytest.fixture(scope="module")
async def chat(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chat]:
    """Yield Gradio's chat with the gateway behind it."""
    python = environments.python("gradio", "gradio==6.31.0", "openai==3.57.0") / "bin/python"
    folder = tmp_path_factory.mktemp("gradio")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with recording(gateway.url) as recorder:
        environment = {
            "BASE_URL": recorder.api,
            "API_KEY": KEY,
            "PORT": str(port),
            "HOME": str(folder),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
        }
        async with serving([str(python), str(PROGRAM)], url, folder, **environment):
            yield Chat(url, recorder)


async def opened(page: Page, chat: Chat) -> Locator:
    """Open the chat; return its answers."""
    await page.set_viewport_size({"width": 900, "height": 760})
    await page.goto(chat.url)
    await page.get_by_test_id("textbox").wait_for()
    return page.locator(".bot.message")


async def ask(page: Page, kind: str, colour: str) -> None:
    # After an answer the page still sets its input back, and with it a picture that was attached too early.
    await expect(page.get_by_test_id("submit-button")).to_be_visible(timeout=60_000)
    await expect(page.get_by_test_id("textbox")).to_be_enabled(timeout=60_000)
    await page.wait_for_timeout(500)
    picture = FilePayload(name=f"{colour}-{kind}.png", mimeType="image/png", buffer=encoded(kind, colour))
    await page.get_by_test_id("file-upload").set_input_files(picture)
    await expect(page.locator(".thumbnail-item")).to_have_count(1)
    await page.get_by_test_id("textbox").fill(QUESTION)
    await expect(page.locator(".thumbnail-item")).to_have_count(1)
    await page.get_by_test_id("textbox").press("Enter")


async def test_ten_turns_with_a_new_picture_each(page: Page, chat: Chat, shots: Path) -> None:
    answers = await opened(page, chat)
    for place, (kind, colour) in enumerate(TURNS):
        await ask(page, kind, colour)
        await expect(answers).to_have_count(place + 1, timeout=60_000)
        await expect(answers.last).to_contain_text(f"{colour} {kind}", timeout=60_000)
    await page.screenshot(path=shots / "gradio.png")
    assert [one.status for one in chat.recorder.exchanges] == [200] * len(TURNS)
    assert str(chat.recorder.exchanges[-1].request).count("'image_url':") == len(TURNS)


async def test_stop_and_try_again(page: Page, chat: Chat) -> None:
    answers = await opened(page, chat)
    # The demo model's answers are too short to be stopped.
    chat.recorder.fields = {"ignore_eos": True, "max_tokens": 3500}
    try:
        await ask(page, "square", "green")
        await expect(answers.last).to_contain_text("green square", timeout=60_000)
        await page.locator(".stop-button").click()
        stopped = chat.recorder.exchanges[-1]
    finally:
        chat.recorder.fields = {}
    await expect(page.get_by_test_id("submit-button")).to_be_visible()
    text = await answers.last.inner_text()
    await page.wait_for_timeout(1000)
    # The page stops, but Gradio leaves its request open: the answer runs to its end.
    assert await answers.last.inner_text() == text
    await page.get_by_label("Retry").last.click()
    await until(lambda: chat.recorder.exchanges[-1] is not stopped and chat.recorder.exchanges[-1].whole, 60)
    assert chat.recorder.exchanges[-1].text.strip() == "A green square."
    await expect(answers.last).to_contain_text("A green square.")


async def test_what_a_person_reads_while_the_engine_is_away(
    page: Page, chat: Chat, gateway: Gateway, shots: Path
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
