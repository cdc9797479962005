"""Open WebUI at its defaults, driven as a person does; only its log-in is turned off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import FilePayload, Locator, Page, expect
from playwright.async_api import TimeoutError as NotSeen

from tests import rendered
from tests.frontends import engine, environments
from tests.frontends.conftest import KEY
from tests.frontends.pictures import QUESTION, TURNS
from tests.frontends.processes import serving
from tests.frontends.recording import Exchange, Recorder, recording
from tests.servers import Gateway, free_port, until, wait_until_ready
from tests.shapes import encoded

TASKS = {
    "title": "Generate a concise title",
    "tags": "Generate 1-3 broad tags",
    "follow-ups": "Predict 3-5 useful messages",
}


@dataclass(frozen=True)
class WebUI:
    url: str
    recorder: Recorder

    @property
    def chats(self) -> list[Exchange]:
        """What was asked for a person, not for a task of Open WebUI's own."""
        return [one for one in self.recorder.exchanges if one.request.get("stream")]

    def tasks(self, name: str) -> list[Exchange]:
        begun = f"### Task:\n{TASKS[name]}"
        return [
            one
            for one in self.recorder.exchanges
            if str(one.request["messages"][-1]["content"]).startswith(begun)
        ]


@pytest.fixture(scope="module")
async def webui(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebUI]:
    """Yield Open WebUI with the gateway behind it, its data in a folder of its own."""
    command = environments.python("open-webui", "open-webui==0.12.4") / "bin/open-webui"
    folder = tmp_path_factory.mktemp("open-webui")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with recording(gateway.url) as recorder:
        environment = {
            "OPENAI_API_BASE_URL": recorder.api,
            "OPENAI_API_KEY": KEY,
            "WEBUI_AUTH": "False",
            "WEBUI_SECRET_KEY": "frontends",
            "ENABLE_OLLAMA_API": "False",
            "DATA_DIR": str(folder),
            "HOME": str(folder),
            # Nothing is fetched from the internet.
            "OFFLINE_MODE": "true",
            "HF_HUB_OFFLINE": "1",
            "ANONYMIZED_TELEMETRY": "False",
        }
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(port)]
        async with serving([str(command), *arguments], f"{url}/health", folder, **environment):
            yield WebUI(url, recorder)


async def opened(page: Page, webui: WebUI) -> Locator:
    """Open a new chat; return its answers."""
    await page.set_viewport_size({"width": 1000, "height": 760})
    await page.goto(webui.url)
    await page.wait_for_selector("#chat-input")
    welcome = page.get_by_text("Okay, Let's Go!")
    with suppress(NotSeen):  # it greets a browser once
        await welcome.first.click(timeout=3000)
    return page.locator(".chat-assistant")


async def ask(page: Page, kind: str, colour: str) -> None:
    picture = FilePayload(name=f"{colour}-{kind}.png", mimeType="image/png", buffer=encoded(kind, colour))
    async with page.expect_response(lambda answer: "/api/v1/files/" in answer.url) as uploaded:
        await page.locator("input[type=file]").first.set_input_files(picture)
    await (await uploaded.value).finished()
    await page.wait_for_timeout(500)  # the page takes in what the upload answered
    await page.locator("#chat-input").click()
    await page.keyboard.type(QUESTION)
    await page.keyboard.press("Enter")


async def try_again(page: Page) -> None:
    await page.get_by_label("Regenerate", exact=True).last.click()
    await page.get_by_text("Try Again").last.click()


async def test_ten_turns_with_a_new_picture_each(
    page: Page, webui: WebUI, gateway: Gateway, shots: Path
) -> None:
    answers = await opened(page, webui)
    for turn, (kind, colour) in enumerate(TURNS, 1):
        await ask(page, kind, colour)
        await until(lambda turn=turn: len(webui.chats) == turn and webui.chats[-1].whole, 60)  # type: ignore[misc]
        # Its text about attached files is new to the demo model, whose answers are often wrong. So not they
        # are checked but the pictures that the model is given, and that a person reads what was answered.
        # The page keeps only the latest messages, so they cannot be counted.
        asked = webui.chats[-1]
        await expect(answers.last).to_have_text(asked.text.strip(), timeout=30_000)
        assert await rendered.pictures(gateway, asked.request, KEY) == rendered.newest(TURNS[:turn])
        await expect(page.locator("#continue-response-button")).to_be_visible(timeout=60_000)
    right = [f"A {colour} {kind}." for kind, colour in TURNS]
    found = sum(one.text.strip() == words for one, words in zip(webui.chats, right, strict=True))
    print(f"{found} of {len(TURNS)} answers are right")
    await page.screenshot(path=shots / "open-webui.png")
    await until(lambda: all(one.whole for one in webui.recorder.exchanges), 60)
    assert [one.status for one in webui.chats] == [200] * len(TURNS)
    last = webui.chats[-1].request
    assert (len(last["tools"]), "tool_choice" in last) == (36, False)
    assert str(last["messages"]).count("'image_url'") >= len(TURNS)


async def test_the_tasks_of_a_first_turn_are_answered(page: Page, webui: WebUI) -> None:
    before = {name: len(webui.tasks(name)) for name in TASKS}
    await opened(page, webui)
    await ask(page, "star", "blue")
    for name, count in before.items():
        await until(lambda name=name, count=count: len(webui.tasks(name)) > count, 60)  # type: ignore[misc]
        asked = webui.tasks(name)[-1]
        await until(lambda asked=asked: asked.whole, 60)  # type: ignore[misc]
        assert (name, asked.status) == (name, 200)
        assert asked.text.strip()


async def test_stop_continue_and_try_again(page: Page, webui: WebUI, gateway: Gateway) -> None:
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
    await until(lambda: len(webui.chats) > count and webui.chats[-1].whole, 60)
    assert webui.chats[-1].request["messages"][-1]["role"] == "assistant"
    assert webui.chats[-1].status == 200
    await try_again(page)
    await until(lambda: len(webui.chats) > count + 1 and webui.chats[-1].whole, 60)
    assert webui.chats[-1].request["messages"][-1]["role"] == "user"
    assert webui.chats[-1].status == 200
    await expect(answers.last).to_have_text(webui.chats[-1].text.strip())


async def test_what_a_person_reads_while_the_engine_is_away(
    page: Page, webui: WebUI, gateway: Gateway, shots: Path
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
    await until(lambda: len(webui.chats) > count and webui.chats[-1].whole, 60)
    assert webui.chats[-1].status == 200
    await expect(answers.last).to_have_text(webui.chats[-1].text.strip())
    assert await rendered.pictures(gateway, webui.chats[-1].request, KEY) == rendered.newest(
        [("triangle", "red")]
    )
