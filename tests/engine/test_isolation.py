"""No request is answered from another's image: many at once, equal file lengths, one file with two keys."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from openai import AsyncOpenAI

from engine_config.demo_model.scenes import COLOURS, KINDS, REFUSAL
from tests.engine.keyed import KEYS
from tests.servers import Gateway, metric
from tests.shapes import data_url, encoded

pytestmark = pytest.mark.engine
SHAPES = [(kind, colour) for kind in KINDS for colour in COLOURS]
ROUNDS = 3


async def wrong(client: AsyncOpenAI, shape: tuple[str, str], form: str, choices: int = 1) -> list[str]:
    """Ask what is in the image of `shape`; return the answers about another one.

    The demo model refuses one image, the white star.
    """
    kind, colour = shape
    reply = await client.chat.completions.create(
        model="llava-demo",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": data_url(kind, colour, form=form)}},
                    {"type": "text", "text": "What is in the image?"},
                ],
            }
        ],
        temperature=0,
        max_tokens=32,
        n=choices,
    )
    said = [choice.message.content or "" for choice in reply.choices]
    if shape == ("star", "white"):
        said = [words for words in said if words != REFUSAL]
    return [f"{colour} {kind}: {words}" for words in said if colour not in words or kind not in words]


def shuffled(seed: int) -> list[tuple[str, str]]:
    return random.Random(seed).sample(SHAPES, len(SHAPES))


@asynccontextmanager
async def clients(gateway: Gateway, *keys: str, retries: int = 0) -> AsyncIterator[list[AsyncOpenAI]]:
    opened = [AsyncOpenAI(base_url=gateway.api, api_key=key, max_retries=retries) for key in keys]
    yield opened
    for client in opened:
        await client.close()


@pytest.mark.parametrize("form", ["png", "bmp"])
async def test_each_of_many_at_once_is_answered_from_its_own_image(gateway: Gateway, form: str) -> None:
    if form == "bmp":
        assert len({len(encoded(*shape, form="bmp")) for shape in SHAPES}) == 1
    restarts = await metric(gateway, "gateway_engine_restarts_total")
    async with clients(gateway, "none") as (client,):
        for seed in range(ROUNDS):
            asked = [
                wrong(client, shape, form, 1 + number % 3) for number, shape in enumerate(shuffled(seed))
            ]
            assert [answer for answers in await asyncio.gather(*asked) for answer in answers] == []
    assert await metric(gateway, "gateway_engine_restarts_total") == restarts


async def test_the_same_images_under_two_keys_are_answered_alike_and_cached_apart(keyed: Gateway) -> None:
    async with clients(keyed, *KEYS.values()) as callers:
        assert await wrong(callers[0], SHAPES[0], "png") == []  # The metric exists once there was an image.
        misses = await metric(keyed, "gateway_image_cache_total", result="miss")
        asked = [
            wrong(client, shape, "jpeg")
            for seed in range(2)
            for client in callers
            for shape in shuffled(seed)
        ]
        assert [answer for answers in await asyncio.gather(*asked) for answer in answers] == []
    # Each image is decoded once per key.
    decoded = await metric(keyed, "gateway_image_cache_total", result="miss") - misses
    assert decoded == len(KEYS) * len(SHAPES)
