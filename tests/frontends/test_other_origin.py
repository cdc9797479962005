"""A page of another origin in Chromium, with OpenAI's package for JavaScript, on the scripted engine.

`make frontends` runs the same page on the real engine, for ten turns (other_origin.py).
"""

import pytest
from playwright.async_api import Page, expect

from tests.api.asking import sdk
from tests.frontends.other_origin import ASK, opened
from tests.scripted_engine import ScriptedEngine
from tests.servers import idle_engine, metric, scripted_gateway, supervised_gateway
from tests.shapes import data_url

pytestmark = pytest.mark.slow

KEY = "sk-page"
STAR = data_url("star", "red")
UPLOAD = """async url => {
    const form = new FormData();
    form.append("purpose", "user_data");
    form.append("file", new Blob(["x"]), "x.txt");
    await fetch(url, {method: "POST", mode: "no-cors", body: form});
}"""
REFUSED_BY_THE_BROWSER = {"error": "APIConnectionError", "status": None, "code": None}


async def test_a_page_of_a_named_origin_streams_reads_errors_and_leaves(page: Page, site: str) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine, api_keys=(KEY,), cors_origins=(site,)) as gateway:
        await opened(page, site, gateway.api, KEY)
        assert (await page.evaluate(ASK, [STAR, "What is it?", {}, None]))["text"].strip() == "A red circle."
        engine.words, engine.pause = (" and",) * 1000, 0.05
        assert (await page.evaluate(ASK, [STAR, "What else?", {}, 3]))["left"]
        await idle_engine(engine)
        await opened(page, site, gateway.api, "sk-wrong")
        answer = await page.evaluate(ASK, [STAR, "What is it?", {}, None])
        assert (answer["status"], answer["code"]) == (401, "invalid_api_key")


async def test_a_page_of_another_origin_gets_nothing(page: Page, site: str) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine, api_keys=(KEY,), cors_origins=(site,)) as gateway:
        await opened(page, site.replace("127.0.0.1", "localhost"), gateway.api, KEY)
        assert await page.evaluate(ASK, [STAR, "What is it?", {}, None]) == REFUSED_BY_THE_BROWSER
    assert engine.jobs == []


async def test_a_page_of_another_origin_stores_nothing_where_there_are_no_keys(page: Page, site: str) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        for origin in (site, site.replace("127.0.0.1", "localhost")):  # another port, another site
            await page.goto(f"{origin}/page.html")
            await page.evaluate(UPLOAD, f"{gateway.api}/files")
        refused = await metric(gateway, "gateway_request_outcomes_total", code="origin_not_allowed")
        async with sdk(gateway) as client:
            stored = (await client.files.list()).data
    assert (refused, stored) == (2, [])


async def test_a_page_reads_why_the_engine_is_away(page: Page, site: str) -> None:
    failures: list[BaseException] = []
    settings = {"api_keys": (KEY,), "cors_origins": (site,)}
    async with supervised_gateway(lambda _: ScriptedEngine(), failures.append, **settings) as gateway:
        await opened(page, site, gateway.api, KEY)
        answer = await page.evaluate(ASK, [STAR, "What is it?", {}, None])
        assert (answer["status"], answer["code"]) == (503, "engine_not_ready")
        await expect(page.locator(".answer")).to_contain_text("the engine is starting")
    assert failures == []
