"""Under one caller's flood another's short text is answered in time, and never refused.

Each flood lasts as long as the other's requests; its own may be refused or wait. `make fairness` has each
flood take longer.
"""

import asyncio
import base64
import io
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx2
import numpy as np
import orjson
import pytest
from PIL import Image

from tests.api.wire import CHAT, connected, head
from tests.engine.keyed import KEYS, client
from tests.servers import Gateway, samples

pytestmark = pytest.mark.engine

SECONDS = float(os.environ.get("FAIRNESS_SECONDS", "4"))  # of ann's requests under each flood
PICTURES = int(os.environ.get("FAIRNESS_PICTURES", "60"))
BOUND = 2.0  # seconds that each of them may take

Flood = Callable[[Gateway], Coroutine[Any, Any, None]]


async def posted(gateway: Gateway, bodies: list[dict[str, Any]]) -> None:
    """Send `bodies` at once in eve's name, and each again as soon as it is answered, whatever with."""
    limits = httpx2.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {KEYS['eve']}", "content-type": "application/json"}
    async with httpx2.AsyncClient(trust_env=False, timeout=120, limits=limits) as http:

        async def again(content: bytes) -> None:
            while True:
                await http.post(f"{gateway.url}{CHAT}", content=content, headers=headers)

        await asyncio.gather(*(again(orjson.dumps(body)) for body in bodies))


def saying(content: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "llava-demo", "messages": [{"role": "user", "content": content}], **fields}


def heavy(count: int) -> Flood:
    async def flood(gateway: Gateway) -> None:
        body = saying("Hello", n=16, max_tokens=1000, temperature=1, ignore_eos=True)
        await posted(gateway, [body] * count)

    return flood


async def slow_connections(gateway: Gateway) -> None:
    """Hold 400 connections whose bodies come by a byte every half second."""
    opening = head("POST", CHAT, f"authorization: Bearer {KEYS['eve']}", "content-length: 1000")
    async with AsyncExitStack() as held:
        opened = [await held.enter_async_context(connected(gateway)) for _ in range(400)]
        for connection in opened:
            await connection.send(opening)
        while True:
            for connection in opened:
                with suppress(ConnectionError):
                    await connection.send(b"{")
            await asyncio.sleep(0.5)


def refused(text: str) -> Flood:
    """Send texts that are too long for the model, 500 at once."""

    async def flood(gateway: Gateway) -> None:
        await posted(gateway, [saying(text)] * 500)

    return flood


async def large_pictures(gateway: Gateway) -> None:
    """Send pictures of 12 megapixels at once; what stands behind each one's end makes it another."""
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).resize((4000, 3000)).save(data, "jpeg")
    urls = (
        f"data:image/jpeg;base64,{base64.b64encode(data.getvalue() + bytes(number)).decode()}"
        for number in range(PICTURES)
    )
    await posted(
        gateway,
        [saying([{"type": "image_url", "image_url": {"url": url}}], max_tokens=8) for url in urls],
    )


@asynccontextmanager
async def under(gateway: Gateway, flood: Flood) -> AsyncIterator[None]:
    """Run `flood` meanwhile, and cut it off at the end."""
    before = await load(gateway)
    task = asyncio.create_task(flood(gateway))
    try:
        async with asyncio.timeout(10):
            while await load(gateway) <= before:  # noqa: ASYNC110  # it is asked over HTTP
                await asyncio.sleep(0.05)
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def load(gateway: Gateway) -> float:
    """Return how many requests are under way, wait for their turn, or were answered."""
    names = ("gateway_in_flight", "gateway_waiting", "gateway_requests_total")
    found = [
        sample.value
        for name in names
        for sample in await samples(gateway, name)
        if name != "gateway_requests_total" or sample.labels["route"].endswith(CHAT)
    ]
    return sum(found)


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(heavy(8), id="8 requests of 16 answers"),
        pytest.param(heavy(64), id="64 requests of 16 answers"),
        pytest.param(slow_connections, id="400 slow connections"),
        pytest.param(
            refused("circle " * 15_700),
            id="refused texts of many words",
            marks=pytest.mark.xfail(
                reason="worst 3.2 s beside other tests; not yet shown to hold", strict=False
            ),
        ),
        pytest.param(refused("x" * 110_000), id="refused texts of one word"),
        pytest.param(large_pictures, id="large pictures"),
    ],
)
async def test_a_flood_delays_nobody_else(keyed: Gateway, flood: Flood) -> None:
    taken = []
    async with client(keyed, KEYS["ann"]) as ann, under(keyed, flood):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            # A refusal raises, and fails the test.
            await ann.chat.completions.create(
                model="llava-demo", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
            )
            taken.append(time.monotonic() - began)
            await asyncio.sleep(0.05)
    middle, worst = sorted(taken)[len(taken) // 2], max(taken)
    print(f"{len(taken)} answers; median {middle:.3f} s, worst {worst:.3f} s")  # for `pytest -rP`
    assert worst < BOUND
