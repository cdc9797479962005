"""`GATEWAY_PLAYGROUND=share`: a demo for everybody, without keys, that stores nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from playwright.async_api import Browser, Page, expect

from gateway.api.routes.playground import ExamplesError, examples_problem, load_examples
from gateway.settings import Settings
from tests.api.asking import chat, send
from tests.api.wire import CHAT
from tests.playground.test_playground import opened
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway
from tests.shapes import encoded


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    (tmp_path / "star.png").write_bytes(encoded("star", "red"))
    (tmp_path / "star.txt").write_text("What colour is the star?\n")
    return tmp_path


@pytest.fixture
async def shared(examples: Path) -> AsyncIterator[Gateway]:
    settings = {"host": "0.0.0.0", "playground": "share", "playground_examples": examples}
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway:
        yield gateway


@pytest.mark.parametrize(
    "path", ["/v1/files", "/v1/batches", "/v1/responses", "/v1/completions", "/metrics", "/docs"]
)
async def test_it_serves_the_page_and_chat_alone(shared: Gateway, path: str) -> None:
    assert (await send(shared, "GET", path)).status == 404


async def test_a_visitor_asks_ten_times_a_minute(shared: Gateway) -> None:
    answers = [await send(shared, "POST", CHAT, content=orjson.dumps(chat())) for _ in range(11)]
    assert [answer.status for answer in answers] == [200] * 10 + [429]


async def test_other_sites_may_frame_it(shared: Gateway) -> None:
    assert (await send(shared, "GET", "/")).headers["content-security-policy"].endswith("frame-ancestors *")


@pytest.mark.slow
async def test_the_page_shows_its_examples_and_keeps_no_chat(browser: Browser, shared: Gateway) -> None:
    async with opened(browser, shared) as page:
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")
        await expect(page.get_by_role("button", name="Chats")).to_be_hidden()
        await page.get_by_role("button", name="What colour is the star?").click()
        await expect(page.locator(".assistant .said")).to_have_text("A red circle.")
        await expect(page.locator(".user img")).to_have_count(1)
        assert await databases(page) == []
        await page.reload()
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")
        await expect(page.locator(".assistant")).to_have_count(0)


async def databases(page: Page) -> list[str]:
    names: list[str] = await page.evaluate(
        "indexedDB.databases().then((found) => found.map(({ name }) => name))"
    )
    return names


def test_an_example_without_its_question_stops_the_start(examples: Path) -> None:
    (examples / "circle.jpg").write_bytes(b"")
    with pytest.raises(ExamplesError, match=r"circle\.txt"):
        load_examples(examples)
    problem = examples_problem(Settings(playground_examples=examples / "none"))
    assert problem is not None
    assert problem.startswith(f"GATEWAY_PLAYGROUND_EXAMPLES={examples}/none: ")


def test_there_are_at_most_twelve_examples(examples: Path) -> None:
    for number in range(12):
        (examples / f"{number}.png").write_bytes(encoded("star", "red"))
    with pytest.raises(ExamplesError, match="must be 1 to 12 images; got 13"):
        load_examples(examples)
