"""A page from another origin with OpenAI's package for JavaScript: what a browser allows and sends."""

import asyncio
from pathlib import Path

from playwright.async_api import Page, Request

from tests.frontends.conftest import KEY
from tests.frontends.pictures import QUESTION, TURNS
from tests.servers import Gateway, metric
from tests.shapes import data_url

ASK = "([url, text, fields, leave]) => ask(url, text, fields, leave ?? Infinity)"


async def test_a_page_of_another_origin_talks_for_ten_turns(
    page: Page, site: str, gateway: Gateway, shots: Path
) -> None:
    sent: list[Request] = []
    page.on("requestfinished", lambda request: sent.append(request))  # noqa: PLW0108
    await opened(page, site, gateway.api, KEY)
    answers = [
        await page.evaluate(ASK, [data_url(*turn), QUESTION, {"temperature": 0}, None]) for turn in TURNS
    ]
    right = [f"A {colour} {kind}." for kind, colour in TURNS]
    assert [answer["text"].lower() for answer in answers] == [words.lower() for words in right]
    # Seven pictures fit LLaVA's context, and what was left out is readable across origins.
    assert [answer["dropped"] for answer in answers] == [None] * 7 + ["1", "2", "3"]
    headers = await sent[-1].all_headers()
    assert headers["origin"] == site
    assert "x-stainless-lang" in headers
    await page.screenshot(path=shots / "other-origin.png")


async def test_leaving_an_answer_in_the_browser_stops_the_engine(
    page: Page, site: str, gateway: Gateway
) -> None:
    await opened(page, site, gateway.api, KEY)
    fields = {"max_tokens": 3000, "ignore_eos": True}
    answer = await page.evaluate(ASK, [data_url("star", "red"), QUESTION, fields, 5])
    assert answer["left"]
    async with asyncio.timeout(5):
        while await metric(gateway, "gateway_in_flight"):  # noqa: ASYNC110  # it is in another process
            await asyncio.sleep(0.05)


async def test_a_wrong_key_is_an_error_that_the_page_can_read(
    page: Page, site: str, gateway: Gateway
) -> None:
    await opened(page, site, gateway.api, "sk-wrong")
    answer = await page.evaluate(ASK, [data_url("star", "red"), QUESTION, {}, None])
    assert (answer["status"], answer["code"]) == (401, "invalid_api_key")


async def test_a_page_of_an_origin_that_is_not_allowed_gets_nothing(
    page: Page, site: str, gateway: Gateway
) -> None:
    await opened(page, site.replace("127.0.0.1", "localhost"), gateway.api, KEY)
    answer = await page.evaluate(ASK, [data_url("star", "red"), QUESTION, {}, None])
    assert answer == {"error": "APIConnectionError", "status": None, "code": None}


async def opened(page: Page, site: str, api: str, key: str) -> None:
    await page.goto(f"{site}/page.html")
    await page.wait_for_function("document.title === 'ready'")
    await page.evaluate("([api, key]) => connect(api, key)", [api, key])
