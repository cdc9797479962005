"""vLLM keeps pictures in our process and in the engine's; both must forget alike. Run by `make hostile`.

The cache has room for a few pictures, so that nearly every request makes both forget some. Requests have
several pictures and answers, and many leave at a random moment: also between the two halves being told.
"""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from engine_config.profile import PROFILES
from tests.api.asking import chat, image, saying, text
from tests.api.wire import connected, post
from tests.engine.test_isolation import SHAPES, clients, shuffled, wrong
from tests.servers import Gateway, core, metric, served_gateway
from tests.shapes import data_url

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

ROOM = 0.003  # GiB: four pictures
SECONDS = 10.0
WORKERS = 16


def small_cache(folder: Path) -> Path:
    """Return the demo profile with room for a few pictures."""
    made = (PROFILES / "demo.toml").read_text()
    usual = "mm_processor_cache_gb = 0.5"
    assert usual in made
    path = folder / "small.toml"
    path.write_text(made.replace(usual, f"mm_processor_cache_gb = {ROOM}"))
    return path


async def leave_early(gateway: Gateway, lot: random.Random) -> None:
    shown = [image(data_url(*lot.choice(SHAPES))) for _ in range(lot.randint(1, 6))]
    asked = chat(messages=saying(*shown, text("What is in the image?")), n=lot.randint(1, 3), max_tokens=8)
    async with connected(gateway) as connection:
        await connection.send(post(asked | {"temperature": 1}))
        await asyncio.sleep(lot.random() * 0.2)


async def streamed(client: AsyncOpenAI, asked: dict[str, Any], choices: int) -> list[str]:
    """Return the streamed answers, `choices` of them."""
    said = [""] * choices
    stream = await client.chat.completions.create(**asked, n=choices, stream=True)
    async for chunk in stream:
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    return said


async def wrong_streams(client: AsyncOpenAI, shape: tuple[str, str], choices: int) -> list[str]:
    """Ask what is in the picture of `shape`; return the streamed answers that do not say its colour once."""
    kind, colour = shape
    shown = saying(image(data_url(kind, colour)), text("What is in the image?"))
    said = await streamed(client, chat(messages=shown, temperature=0, max_tokens=32), choices)
    return [f"{colour} {kind}: {words}" for words in said if words.count(colour) != 1]


async def storm(gateway: Gateway, seed: int) -> list[str]:
    """Ask for SECONDS, and leave often; return what was answered wrong."""
    found: list[str] = []
    until = asyncio.get_running_loop().time() + SECONDS

    async def work(lot: random.Random) -> None:
        async with clients(gateway, "none") as (client,):
            while asyncio.get_running_loop().time() < until:
                shape, choices = lot.choice(SHAPES), lot.randint(1, 3)
                match lot.randrange(4):
                    case 0 | 1:
                        await leave_early(gateway, lot)
                    case 2:
                        found.extend(await wrong(client, shape, "png", choices))
                    case 3:
                        found.extend(await wrong_streams(client, shape, choices))

    await asyncio.gather(*(work(random.Random(f"{seed} {number}")) for number in range(WORKERS)))
    return found


async def all_wrong(gateway: Gateway, seed: int, retries: int = 0) -> list[str]:
    """Ask about every shape at once; return what was answered wrong."""
    async with clients(gateway, "none", retries=retries) as (client,):
        asked = [wrong(client, shape, "png", 1 + at % 3) for at, shape in enumerate(shuffled(seed))]
        return [answer for answers in await asyncio.gather(*asked) for answer in answers]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("forgetful")
    with served_gateway(folder, profile=str(small_cache(folder))) as running:
        yield running


async def test_an_image_that_is_forgotten_between_two_answers_of_a_request_is_sent_again(
    forgetful: Gateway,
) -> None:
    """Six images leave no room for the first, which vLLM then takes for known and lacks."""
    assert forgetful.log is not None
    async with clients(forgetful, "none") as (client,):
        for seed in range(3):
            shown = shuffled(seed)[:6]
            content = [*(image(data_url(*shape)) for shape in shown), text("What is in the image?")]
            asked = chat(messages=saying(*content), temperature=0, max_tokens=32)
            (one,) = await streamed(client, asked, 1)
            assert await wrong(client, shown[0], "png") == []
            assert await streamed(client, asked, 4) == [one] * 4
    assert "Multi-modal cache miss" in forgetful.log.read_text()


async def test_answers_stay_right_while_both_caches_forget_and_the_engine_is_replaced(
    forgetful: Gateway,
) -> None:
    assert await storm(forgetful, 1) == []
    assert await all_wrong(forgetful, 1) == []
    # What had not reached the engine when it died gets a 503, which OpenAI's client tries again.
    running = asyncio.create_task(all_wrong(forgetful, 2, retries=60))
    await asyncio.sleep(0.1)
    os.kill(core(forgetful).pid, signal.SIGKILL)
    assert await running == []  # sent again to the next engine, which has none of the images
    assert await metric(forgetful, "gateway_engine_restarts_total") == 1
    assert await storm(forgetful, 3) == []
    assert await all_wrong(forgetful, 4) == []
    assert await metric(forgetful, "gateway_engine_restarts_total") == 1
    assert await metric(forgetful, "gateway_clients_left_total") > 0
