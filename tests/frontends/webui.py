"""Open WebUI and what a person does in it; only its log-in is turned off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from playwright.async_api import Locator, Page
from playwright.async_api import TimeoutError as NotSeen

from tests import environments
from tests.frontends import pictures
from tests.frontends.conftest import KEY
from tests.frontends.processes import Frontend, serving
from tests.frontends.recording import Exchange, recording
from tests.servers import Gateway, until

TASKS = {
    "title": "Generate a concise title",
    "tags": "Generate 1-3 broad tags",
    "follow-ups": "Predict 3-5 useful messages",
}


@asynccontextmanager
async def open_webui(gateway: Gateway, folder: Path, **settings: str) -> AsyncIterator[Frontend]:
    """Run Open WebUI with the gateway behind it, its data in `folder`."""
    command = (
        environments.python(environments.FRONTENDS / "open-webui", "open-webui==0.12.4") / "bin/open-webui"
    )
    async with recording(gateway.url) as recorder:
        environment = {
            "OPENAI_API_BASE_URL": recorder.api,
            "OPENAI_API_KEY": KEY,
            "WEBUI_AUTH": "False",
            "WEBUI_SECRET_KEY": "frontends",
            "ENABLE_OLLAMA_API": "False",
            "DATA_DIR": str(folder),
            "OFFLINE_MODE": "true",
            "ANONYMIZED_TELEMETRY": "False",
            **settings,
        }
        arguments = ["serve", "--host", "127.0.0.1", "--port", "{port}"]
        async with serving([str(command), *arguments], recorder, folder, "/health", **environment) as running:
            yield running


async def opened(page: Page, webui: Frontend) -> Locator:
    """Open a new chat; return its answers."""
    await page.set_viewport_size({"width": 1000, "height": 760})
    await page.goto(webui.url)
    await page.wait_for_selector("#chat-input")
    welcome = page.get_by_text("Okay, Let's Go!")
    with suppress(NotSeen):  # it greets a browser once
        await welcome.first.click(timeout=3000)
    return page.locator(".chat-assistant")


async def ask(page: Page, kind: str, colour: str) -> None:
    async with page.expect_response(lambda answer: "/api/v1/files/" in answer.url) as uploaded:
        await page.locator("input[type=file]").first.set_input_files(pictures.file(kind, colour))
    await (await uploaded.value).finished()
    await page.wait_for_timeout(500)  # the page takes in what the upload answered
    await page.locator("#chat-input").click()
    await page.keyboard.type(pictures.QUESTION)
    await page.keyboard.press("Enter")


async def try_again(page: Page) -> None:
    await page.get_by_label("Regenerate", exact=True).last.click()
    await page.get_by_text("Try Again").last.click()


async def answered(webui: Frontend, count: int) -> Exchange:
    """Return the chat request number `count` once its answer is whole."""
    await until(lambda: len(webui.chats) >= count and webui.chats[count - 1].whole, 60)
    return webui.chats[count - 1]


def tasks(webui: Frontend, name: str) -> list[Exchange]:
    """Return every request so far of one of TASKS."""
    begun = f"### Task:\n{TASKS[name]}"
    sent = webui.recorder.exchanges
    return [one for one in sent if str(one.request["messages"][-1]["content"]).startswith(begun)]


async def asked_in_first_turn(page: Page, webui: Frontend) -> dict[str, Exchange]:
    """Begin a chat; return the request of each of TASKS that it leads to, once all are answered."""
    before = {name: len(tasks(webui, name)) for name in TASKS}
    await opened(page, webui)
    await ask(page, "star", "blue")
    for name, count in before.items():
        await until(lambda name=name, count=count: len(tasks(webui, name)) > count, 60)  # type: ignore[misc]
    await until(lambda: webui.recorder.idle, 60)
    return {name: tasks(webui, name)[count] for name, count in before.items()}
