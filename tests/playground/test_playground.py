"""The playground in Chromium, at a desk's and a phone's width, on the scripted engine."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, FilePayload, Page, expect

from engine_config.progress import Progress
from gateway.api.routes import playground
from gateway.engine.supervisor import Report
from gateway.errors import EngineDied
from tests.api.asking import send
from tests.debian import require
from tests.images import pictures
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway, supervised_gateway
from tests.shapes import encoded

pytestmark = pytest.mark.slow
expect.set_options(timeout=60_000)  # playwright's own 5 s are too few on a busy machine

DOCS = Path(__file__).parents[2] / "docs"
DESK, PHONE, NARROW = (1200, 900), (390, 844), (320, 640)
STAR: FilePayload = {"name": "star.png", "mimeType": "image/png", "buffer": encoded("star", "red")}
# Larger than one argument of a command may be (128 KiB).
PHOTO: FilePayload = {
    "name": "photo.png",
    "mimeType": "image/png",
    "buffer": pictures.encoded(pictures.noisy(400, 400)),
}
WIDE: FilePayload = PHOTO | {"buffer": pictures.encoded(pictures.noisy(400, 200))}
CIRCLE: FilePayload = {"name": "circle.png", "mimeType": "image/png", "buffer": encoded("circle", "blue")}


@asynccontextmanager
async def opened(
    browser: Browser, gateway: Gateway, size: tuple[int, int] = DESK, scheme: Any = "light"
) -> AsyncIterator[Page]:
    """Yield the page; whatever it logs as an error, or asks of another host, fails the test."""
    wrong: list[str] = []
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, bypass_csp=False
    )
    page = await context.new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((gateway.url, "data:")) else wrong.append(asked.url),
    )
    await page.goto(gateway.url)
    yield page
    await context.close()
    assert wrong == []


async def violations(page: Page, axe: str) -> list[str]:
    found = await page.evaluate(f"(() => {{ {axe} }})() || axe.run().then(found => found.violations)")
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


async def add(page: Page, picture: FilePayload) -> None:
    """Add a picture, and return once the page has read it: a message sent before has none."""
    await page.get_by_label("Add pictures").set_input_files([picture])
    await expect(page.locator("#pictures img")).to_have_count(1)


async def ask(page: Page, words: str) -> None:
    await page.get_by_label("Message", exact=True).fill(words)
    await page.keyboard.press("Enter")


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk", "phone"])
async def test_an_example_is_answered_and_everything_is_accessible(
    browser: Browser, axe: str, size: tuple[int, int], scheme: str
) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway, opened(browser, gateway, size, scheme) as page:
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")
        assert await violations(page, axe) == []
        await page.get_by_role("button", name="What is in the image?").click()
        await expect(page.locator(".assistant .said")).to_have_text("A red circle.")
        await page.get_by_role("button", name="What the model saw").click()
        await expect(page.locator(".fits img")).to_have_count(3)
        await page.get_by_label("8 × 8 patches").check()
        # A line every 42 pixels of 336: the demo's 64 tokens per image are 8 × 8 patches.
        grid = "getComputedStyle(document.querySelector('.pixels'), '::after').backgroundSize"
        assert await page.evaluate(grid) == ", ".join(["12.5% 12.5%"] * 2)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await violations(page, axe) == []


@pytest.mark.engine
@pytest.mark.parametrize(("size", "name"), [(DESK, "playground"), (PHONE, "playground-phone")])
async def test_the_real_engine_answers_an_example(
    browser: Browser, gateway: Gateway, size: tuple[int, int], name: str
) -> None:
    async with opened(browser, gateway, size) as page:
        await page.get_by_role("button", name="What is in the image?").click()
        await expect(page.locator(".assistant .said")).to_have_text(
            re.compile("red circle.*blue square|blue square.*red circle")
        )
        await page.get_by_role("button", name="What the model saw").click()
        await expect(page.locator(".panel .image")).to_contain_text("<image> × ")
        await page.get_by_label("8 × 8 patches").check()
        # The docs' pictures change only when they are asked for: `SCREENSHOTS=1 pytest tests/playground`.
        if os.environ.get("SCREENSHOTS"):
            # A picture of the whole page would have the composer, which stays in view, in its middle.
            await page.evaluate(
                "for (const it of document.querySelectorAll('#ask, header')) it.style.position = 'static';"
                "scrollTo(0, 0)"
            )
            await page.screenshot(path=DOCS / f"{name}.png", full_page=True)


async def test_the_keyboard_is_enough(browser: Browser) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway, opened(browser, gateway) as page:
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")
        await tab_to(page, "What colour is the star?")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Ask again")).to_be_visible()
        # The composer has the focus, and the answer's actions stand before it.
        await expect(page.get_by_label("Message", exact=True)).to_be_focused()
        await tab_to(page, "What the model saw", "Shift+Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("region", name="What the model saw")).to_be_visible()


async def until(page: Page, condition: str) -> None:
    """Wait for a condition in JavaScript; the page's own policy forbids playwright's `wait_for_function`."""
    async with asyncio.timeout(60):
        while not await page.evaluate(condition):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Press `key` until the element named `name` has the focus."""
    for _ in range(12):
        await page.keyboard.press(key)
        if name in await page.evaluate("document.activeElement.textContent"):
            return
    raise AssertionError(f"Tab does not reach {name!r}")


async def test_what_the_model_saw_is_what_the_engine_got(browser: Browser) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await add(page, STAR)
        await ask(page, "What is it?")
        await page.get_by_role("button", name="What the model saw").click()
        panel = page.get_by_role("region", name="What the model saw")
        count = len(engine.jobs[0].token_ids) + engine.model.tokens_per_image - 1
        await expect(panel).to_contain_text(f"{count} of 2048 tokens")
        await expect(panel.locator(".special")).to_have_text("<s>")
        await expect(panel.locator(".image")).to_have_text("<image> × 64")
        await expect(panel).to_contain_text("pad (used)")
        await expect(panel).to_contain_text("As the server does by itself.")
        # exp(-0.5), as the scripted engine has it
        said = page.locator(".assistant .said")
        await expect(said.get_by_title("60.7 %")).to_have_count(3)
        await said.get_by_role("group").focus()
        for token in (" A", " red", " circle."):
            await page.keyboard.press("ArrowRight")
            await expect(said.locator(".alternatives .said-one")).to_have_text(f'"{token}": 60.7 %')
        await expect(said.locator(".alternatives p")).to_have_count(5)  # the token, and four others
        await expect(said.locator(".alternatives p").last).to_contain_text(" circle.3")
        # 1, 2 and 3 seconds, as the scripted engine has them; two tokens in the three seconds after the first
        for step, spent in {"queue": 1000, "prefill": 2000, "generate": 3000}.items():
            await expect(panel.get_by_role("row", name=step)).to_contain_text(f"{spent} ms")
        await expect(panel.get_by_role("row", name="decode")).to_contain_text(" ms")
        assert await panel.locator(".bar .generate").evaluate("part => parseFloat(part.style.width)") > 49
        await expect(panel).to_contain_text("0.7 tokens/s")
    assert len(engine.jobs) == 1


async def test_many_turns_ask_again_and_a_new_chat(browser: Browser) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        for turn, words in enumerate(("One?", "Two?"), 1):
            await ask(page, words)
            await expect(page.get_by_role("button", name="Ask again")).to_have_count(turn)
        await page.get_by_role("button", name="Ask again").nth(1).click()
        await expect(page.get_by_label("Message", exact=True)).to_be_focused()
        await expect(page.get_by_role("button", name="Ask again")).to_have_count(3)  # both answers are there
        first, second, again = (
            engine.model.vocabulary.decode(job.token_ids, special=True) for job in engine.jobs
        )
        assert first == "<s>USER: One?\nASSISTANT:"
        assert again == second == "<s>USER: One?\nASSISTANT: A red circle.</s>USER: Two?\nASSISTANT:"
        await page.get_by_role("button", name="New chat").click()
        await expect(page.locator(".turn")).to_have_count(0)


async def test_stop_ends_the_answer_on_the_engine(browser: Browser) -> None:
    engine = ScriptedEngine(words=(" word",) * 200, pause=0.05)
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await ask(page, "Go on")
        await expect(page.locator(".assistant .said")).to_contain_text("word word")
        await expect(page.get_by_role("log")).to_have_attribute("aria-busy", "true")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("button", name="Ask again")).to_be_visible()
        await expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")
        await expect(page.get_by_role("button", name="Send")).to_be_focused()
        async with asyncio.timeout(8):  # The answer takes ten seconds.
            while engine.running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_pictures_are_pasted_dropped_and_removed(browser: Browser) -> None:
    give = """(kind) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array([1])], "a.png", {type: "image/png"}));
        const event = kind === "paste" ? new ClipboardEvent(kind, {clipboardData: data, bubbles: true})
            : new DragEvent(kind, {dataTransfer: data, bubbles: true});
        document.body.dispatchEvent(event);
    }"""
    async with scripted_gateway(ScriptedEngine()) as gateway, opened(browser, gateway) as page:
        for kind in ("paste", "drop"):
            await page.evaluate(give, kind)
        await expect(page.locator("#pictures img")).to_have_count(2)
        await page.get_by_role("button", name="Remove picture 1").click()
        await expect(page.locator("#pictures img")).to_have_count(1)
        await page.keyboard.press("Tab")
        await page.get_by_label("Message", exact=True).press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text(
            "Picture 1 is not of a kind that can be read here. Save it as JPEG or PNG, or remove it."
        )


async def test_a_refused_picture_goes_back_into_the_composer_and_the_chat_goes_on(browser: Browser) -> None:
    broken: FilePayload = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await ask(page, "One?")
        await expect(page.get_by_role("button", name="Ask again")).to_be_visible()
        await add(page, broken)
        await ask(page, "Two?")
        await expect(page.get_by_role("alert")).to_contain_text("Picture 1 is not of a kind")
        await expect(page.locator(".turn")).to_have_count(2)
        await expect(page.get_by_label("Message", exact=True)).to_have_value("Two?")
        await page.get_by_role("button", name="Remove picture 1").click()
        await page.get_by_label("Message", exact=True).press("Enter")
        await expect(page.get_by_role("button", name="Ask again")).to_have_count(2)
        await expect(page.get_by_role("alert")).to_be_hidden()
    prompt = engine.model.vocabulary.decode(engine.jobs[-1].token_ids, special=True)
    assert prompt == "<s>USER: One?\nASSISTANT: A red circle.</s>USER: Two?\nASSISTANT:"


async def test_the_composer_stays_in_view_and_the_page_follows_only_at_its_end(browser: Browser) -> None:
    engine = ScriptedEngine(words=(" word\n",) * 300, pause=0.01)
    async with scripted_gateway(engine) as gateway, opened(browser, gateway, PHONE) as page:
        await ask(page, "Go on")
        await until(page, "document.body.scrollHeight > 3 * innerHeight")
        await expect(page.get_by_role("button", name="Stop")).to_be_in_viewport()
        assert await page.evaluate("innerHeight + scrollY >= document.body.scrollHeight - 60")
        await page.evaluate("scrollTo(0, 100)")
        before = await page.evaluate("document.body.scrollHeight")
        await until(page, f"document.body.scrollHeight > {before} + 100")
        assert await page.evaluate("scrollY") == 100
        await expect(page.get_by_role("button", name="Stop")).to_be_in_viewport()
        await page.get_by_role("button", name="Stop").click()


async def test_the_page_says_when_the_server_has_gone(browser: Browser) -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(scripted_gateway(ScriptedEngine()))
        page = await stack.enter_async_context(opened(browser, gateway))
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")
        await page.route("**/health/ready", lambda route: route.abort())
        await page.evaluate("dispatchEvent(new Event('focus'))")  # or five seconds later
        await expect(page.get_by_role("status")).to_have_text("the server cannot be reached")
        await page.unroute("**/health/ready")
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")


async def test_a_file_over_the_limit_is_refused_before_it_is_sent(browser: Browser) -> None:
    large: FilePayload = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(2**20 + 2**19)}
    gateway_of = scripted_gateway(ScriptedEngine(), image_max_bytes=2**20)
    async with gateway_of as gateway, opened(browser, gateway) as page:
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")
        await page.get_by_label("Add pictures").set_input_files([large])
        await expect(page.get_by_role("alert")).to_have_text(
            "large.png is too large: 1.5 MB; the limit is 1.0 MB"
        )
        await expect(page.locator("#pictures img")).to_have_count(0)


async def test_the_servers_error_is_shown(browser: Browser) -> None:
    engine = ScriptedEngine(error=EngineDied("the engine died of it"), fails_at=1)
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await ask(page, "What?")
        await expect(page.get_by_role("alert")).to_contain_text("the engine died of it")


async def test_the_page_is_there_while_the_engine_starts(browser: Browser, axe: str) -> None:
    engine, reports = ScriptedEngine(), list[Report]()

    def make(report: Report) -> ScriptedEngine:
        reports.append(report)
        return engine

    async with supervised_gateway(make, lambda _: None) as gateway, opened(browser, gateway) as page:
        await expect(page.get_by_role("status")).to_contain_text("starting")
        bar = page.get_by_role("progressbar", name="Weights")
        await expect(bar).to_be_hidden()
        reports[0]("loading the weights", Progress(3_200_000_000, 14_100_000_000, 85e6, "loading"))
        await expect(page.get_by_role("status")).to_contain_text("3.2 of 14.1 GB, 85 MB/s, 2 min left")
        await expect(bar).to_have_js_property("value", 3_200_000_000)
        await expect(bar).to_have_js_property("max", 14_100_000_000)
        assert await violations(page, axe) == []
        await ask(page, "What?")
        await expect(page.get_by_role("alert")).to_contain_text("the engine is starting: loading the weights")
        engine.started.set()
        await expect(bar).to_be_hidden()
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")


async def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Browser) -> None:
    keyed = scripted_gateway(ScriptedEngine(), api_keys=("sk-mine",))
    async with keyed as gateway, opened(browser, gateway) as page:
        await page.get_by_label("API key").fill("sk-mine")
        await page.get_by_label("API key").press("Enter")
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")
        await page.reload()
        await expect(page.get_by_role("status")).to_have_text("llava-demo: ready")
        assert await page.evaluate("localStorage.length") == 0


async def test_a_photo_is_added_and_two_pictures_lead_the_message(browser: Browser) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await page.get_by_label("Take a photo").set_input_files([STAR])
        await expect(page.locator("#pictures img")).to_have_count(1)
        await page.get_by_label("Add pictures").set_input_files([CIRCLE])
        await expect(page.locator("#pictures img")).to_have_count(2)
        await ask(page, "Which is round?")
        await expect(page.locator(".user img")).to_have_count(2)
        await expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    (job,) = engine.jobs
    assert len({picture.key for picture in job.pictures}) == 2


async def test_another_fit_gives_an_answer_of_its_own_beside_the_first(browser: Browser, axe: str) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway, opened(browser, gateway, NARROW) as page:
        await add(page, WIDE)
        await ask(page, "What is it?")
        fits = page.get_by_role("group", name="The picture as the model saw it").get_by_role("button")
        await expect(fits).to_have_count(3)
        await expect(page.locator(".assistant .note")).to_contain_text(
            "the demo model knows only coloured shapes"
        )
        await fits.nth(1).click()
        await expect(page.locator(".variant")).to_have_count(2)
        await expect(page.locator(".variant.chosen .settings")).to_have_text("image_fit crop")
        await expect(fits.nth(1)).to_have_text("cropA red circle.")
        await fits.nth(0).click()  # It has an answer: none is asked for.
        await expect(page.locator(".variant.chosen .settings")).to_have_text("default settings")
        await expect(fits.nth(0)).to_be_focused()
        await page.get_by_role("button", name="Settings", exact=True).click()
        # 320 pixels wide, which is also 640 at 200 % zoom.
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await violations(page, axe) == []
    pad, crop = engine.jobs
    assert pad.token_ids == crop.token_ids
    assert pad.pictures[0].pixels != crop.pictures[0].pixels


async def test_a_question_is_edited_and_the_chat_is_kept_listed_and_saved(browser: Browser) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        for turn, words in enumerate(("One?", "Two?"), 1):
            await ask(page, words)
            await expect(page.get_by_role("button", name="Ask again")).to_have_count(turn)
        await page.get_by_role("button", name="Edit question").first.click()
        await expect(page.get_by_label("Message", exact=True)).to_have_value("One?")
        await add(page, STAR)
        await ask(page, "Three?")
        await expect(page.locator(".turn.user")).to_have_count(1)
        await expect(page.locator(".tile")).to_have_count(3)
        await page.reload()
        await expect(page.locator(".turn.user .said")).to_have_text("Three?")
        await expect(page.locator(".turn.user img")).to_have_count(1)
        await expect(page.locator(".assistant .said")).to_have_text("A red circle.")
        await page.get_by_role("button", name="Chats").click()
        async with page.expect_download() as saved:
            await page.get_by_role("button", name="Save as JSON: One?").click()
        file = json.loads((await (await saved.value).path()).read_bytes())
        assert [part["type"] for part in file["messages"][0]["content"]] == ["image_url", "text"]
        assert file["messages"][1] == {"role": "assistant", "content": "A red circle."}
        await page.get_by_role("button", name="Delete: One?").click()
        await expect(page.locator("#chats li")).to_have_count(0)
        await expect(page.locator(".turn")).to_have_count(0)
    assert engine.model.vocabulary.decode(engine.jobs[-1].token_ids, special=True).endswith(
        "Three?\nASSISTANT:"
    )
    assert len(engine.jobs[-1].pictures) == 1


async def test_settings_are_those_of_the_request_and_are_shown_where_they_differ(browser: Browser) -> None:
    engine = ScriptedEngine(words=("<b onclick=x>1</b> **bold** ![p](http://127.0.0.9/p.png)", " more"))
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await page.get_by_role("button", name="Settings", exact=True).click()
        drawer = page.get_by_role("complementary", name="Settings")
        for name, value in {"messages[0]": "Be brief.", "temperature": "0.9", "max_tokens": "1"}.items():
            await drawer.get_by_label(name).fill(value)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Settings", exact=True)).to_be_focused()
        await ask(page, "Hi")
        said = page.locator(".assistant .said")
        # Markdown has its form; HTML stays text, and a picture is not loaded (`opened` checks that).
        await expect(said.locator("strong")).to_have_text("bold")
        await expect(said).to_have_text("<b onclick=x>1</b> bold p")
        await page.get_by_role("button", name="What the model saw").click()
        rows = page.get_by_role("region", name="What the model saw").locator("table:not(.steps) tr")
        await expect(rows).to_have_text(["max_tokens1", "temperature0.9", "top_p1"])  # its own default
        await expect(page.locator(".end")).to_contain_text("the answer reached its longest length")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("button", name="Continue")).to_be_visible()
    first, more = engine.jobs
    assert (first.sampling.temperature, first.sampling.max_tokens) == (0.9, 1)
    prompt = [engine.model.vocabulary.decode(job.token_ids, special=True) for job in (first, more)]
    assert prompt[0].startswith("<s>Be brief.")
    assert prompt[1].startswith(prompt[0])
    assert prompt[1].endswith("p.png)")


async def test_pictures_change_places_and_a_link_is_fetched_by_the_gateway(browser: Browser) -> None:
    drop = """(url) => {
        const data = new DataTransfer();
        data.setData("text/uri-list", url);
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
    }"""
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await page.get_by_label("Add pictures").set_input_files([STAR, CIRCLE])
        shown = page.locator("#pictures img")
        await expect(shown).to_have_count(2)
        star, circle = [await shown.nth(place).get_attribute("src") for place in range(2)]
        await page.locator("#pictures li").nth(1).drag_to(page.locator("#pictures li").nth(0))
        await expect(shown.nth(0)).to_have_attribute("src", circle or "")
        await page.locator("#pictures .thumb").nth(0).press("ArrowRight")
        await expect(shown.nth(0)).to_have_attribute("src", star or "")
        await page.evaluate(drop, f"{gateway.url}/picture.png")
        # This machine's own addresses are not fetched from.
        await expect(page.get_by_role("alert")).to_contain_text(
            "Picture 1 could not be fetched from its address. Save it to this device, and add it from there."
        )
        await expect(shown).to_have_count(2)


async def test_waiting_says_for_how_long(browser: Browser) -> None:
    engine = ScriptedEngine(pause=2)
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await ask(page, "What?")
        await expect(page.locator("#waiting")).to_have_text("Waiting for the first word: 1 s.")
        engine.hurried = True
        await expect(page.locator("#waiting")).to_be_hidden()
        await expect(page.locator(".assistant .said")).to_have_text("A red circle.")


@pytest.mark.parametrize("name", ["curl", "Python", "JavaScript"])
async def test_the_code_that_is_copied_sends_the_same_request(browser: Browser, name: str) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway, opened(browser, gateway) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await add(page, PHOTO)
        await ask(page, "It's what?")
        await page.get_by_role("button", name="As code").click()
        await page.get_by_role("button", name=f"Copy {name}").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        code = await page.evaluate("navigator.clipboard.readText()")
        match name:
            case "curl":
                require("curl")
                command = ["bash"]
            case "Python":
                command = [sys.executable]
            case _:
                command = [require("node", "nodejs"), "--input-type=module", "-"]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=-1, stdout=-1, env=os.environ | {"no_proxy": "*"}
        )
        said, _ = await process.communicate(code.encode())
        assert "A red circle." in said.decode()
    shown, run = engine.jobs
    assert run.token_ids == shown.token_ids
    assert (shown.sampling.logprobs, run.sampling.logprobs) == (4, None)
    # Not their keys: these are a caller's, and without API keys another header is another caller.
    assert [each.pixels for each in run.pictures] == [each.pixels for each in shown.pictures]


async def test_the_request_is_shown_as_code(browser: Browser) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway, opened(browser, gateway) as page:
        await ask(page, "It's what?")
        await page.get_by_role("button", name="As code").click()
        code = page.get_by_role("region", name="As code")
        await expect(code.locator("pre").first).to_contain_text(f"curl {gateway.api}/chat/completions")
        await expect(code.locator("pre")).to_have_count(3)


@pytest.mark.parametrize(
    ("settings", "status"),
    [({}, 200), ({"host": "0.0.0.0", "open_access": True}, 404), ({"playground": "off"}, 404),
     ({"host": "0.0.0.0", "open_access": True, "playground": "on"}, 200)],
)  # fmt: skip
async def test_it_is_on_where_only_this_machine_can_reach_it(settings: dict[str, Any], status: int) -> None:
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway:
        answers = {path: await send(gateway, "GET", path) for path in playground.PATHS}
        examples = {path for path in answers if path.startswith("/playground/examples/")}
        assert {answers[path].status for path in answers.keys() - examples} == {status}
        assert {answers[path].status for path in examples} == {404}


def test_every_file_is_served() -> None:
    folder = Path(playground.__file__).parents[2] / "playground"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in playground.KINDS}
    assert found == {playground.PAGE, *playground.ASSETS}
