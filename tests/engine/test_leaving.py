"""A client that leaves, at any stage, frees the engine and the gateway within seconds."""

import asyncio
import base64
import io
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from gateway.generation.sampling import MOST_LOGPROBS
from tests.api.asking import chat, image, saying, text
from tests.api.test_leaving import silent_site
from tests.api.wire import CHAT, Connection, connected, head, post
from tests.servers import PROMPTLY, Gateway, metric

pytestmark = pytest.mark.engine

TICKETS = (
    70  # that one caller can hold: of 80, twice the demo profile's sequences, one in eight is for others
)
FREE = {
    "gateway_in_flight": 0,
    "gateway_waiting": 0,
    "gateway_memory_held_bytes": 0,
    "vllm:num_requests_running": 0,
    "vllm:num_requests_waiting": 0,
}
SOON = 3.0  # seconds; it takes less than one where nothing else keeps the machine busy
LONG: dict[str, Any] = {"max_tokens": 3000, "ignore_eos": True}


async def shows(gateway: Gateway, seconds: float, gauges: Mapping[str, float]) -> None:
    """Wait until the gauges, summed over labels, have these values; fail after `seconds`."""
    found: dict[str, float] = {}
    try:
        async with asyncio.timeout(seconds):
            while found != gauges:
                found = {name: await metric(gateway, name) for name in gauges}
    except TimeoutError:
        raise AssertionError(f"after {seconds:g} s: {found}; expected {gauges}") from None


async def reaches_at_least(gateway: Gateway, name: str, value: float) -> None:
    async with asyncio.timeout(PROMPTLY):
        while await metric(gateway, name) < value:  # noqa: ASYNC110  # it is asked over HTTP
            await asyncio.sleep(0.01)


async def test_leaving_mid_body(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        await connection.send(head("POST", CHAT, "content-length: 3000000") + bytes(2_000_000))
        await reaches_at_least(gateway, "gateway_memory_held_bytes", 1)
    await shows(gateway, SOON, FREE)


async def test_leaving_while_a_picture_is_fetched(gateway: Gateway) -> None:
    async with silent_site() as site:
        async with connected(gateway) as connection:
            await connection.send(post(chat(messages=saying(image(site.url)))))
            async with asyncio.timeout(PROMPTLY):
                while not site.open:  # noqa: ASYNC110  # the site knows no event
                    await asyncio.sleep(0.01)
        await shows(gateway, SOON, FREE)
        assert site.open == 0


async def test_leaving_while_pictures_are_decoded(gateway: Gateway) -> None:
    pictures = [image(url) for url in large_pictures(6)]
    async with connected(gateway) as connection:
        await connection.send(post(chat(messages=saying(*pictures))))
        await reaches_at_least(gateway, "gateway_memory_held_bytes", 12_000_000)
        assert await metric(gateway, "vllm:num_requests_running") == 0
    await shows(gateway, SOON, FREE)


def large_pictures(count: int) -> Iterator[str]:
    """Yield different images of 12 megapixels as data URLs."""
    colours = np.random.default_rng().integers(0, 256, (count, 3), dtype=np.uint8)
    for colour in colours:
        data = io.BytesIO()
        red, green, blue = (int(value) for value in colour)
        Image.new("RGB", (4000, 3000), (red, green, blue)).save(data, "png", compress_level=1)
        yield f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


async def test_leaving_while_waiting_for_a_queue_permit(gateway: Gateway) -> None:
    sent = head("POST", CHAT, "content-length: 1000") + b"{"
    async with AsyncExitStack() as held:
        for _ in range(TICKETS):
            await (await held.enter_async_context(connected(gateway))).send(sent)
        await shows(gateway, PROMPTLY, {"gateway_in_flight": TICKETS, "gateway_waiting": 0})
        async with connected(gateway) as connection:
            await connection.send(sent)
            await shows(gateway, PROMPTLY, {"gateway_in_flight": TICKETS, "gateway_waiting": 1})
        await shows(gateway, SOON, {"gateway_in_flight": TICKETS, "gateway_waiting": 0})
    await shows(gateway, SOON, FREE)


async def test_leaving_while_waiting_for_an_engine_permit(gateway: Gateway) -> None:
    many = post(chat(n=16, temperature=1, **LONG))
    async with AsyncExitStack() as held:
        for _ in range(2):
            await (await held.enter_async_context(connected(gateway))).send(many)
        await shows(gateway, PROMPTLY, {"vllm:num_requests_running": 32})
        async with connected(gateway) as connection:
            await connection.send(many)
            await shows(gateway, PROMPTLY, {"gateway_in_flight": 3, "gateway_waiting": 0})
            assert await metric(gateway, "vllm:num_requests_waiting") == 0
        await shows(gateway, SOON, {"gateway_in_flight": 2, "vllm:num_requests_running": 32})
    await shows(gateway, SOON, FREE)


@pytest.mark.parametrize(
    ("count", "words"), [pytest.param(24, 550, id="many"), pytest.param(6, 4000, id="the longest")]
)
async def test_leaving_during_prefill(gateway: Gateway, count: int, words: int) -> None:
    async with AsyncExitStack() as held:
        for _ in range(count):
            # Different from the start, so that none of it is in the prefix cache. A step of the engine, which
            # nothing can interrupt, takes one of the longest or a few of the others.
            asked = saying(text(f"{uuid4().hex} {'circle ' * words}"))
            connection = await held.enter_async_context(connected(gateway))
            await connection.send(post(chat(messages=asked, max_tokens=1)))
        await reaches_at_least(gateway, "vllm:num_requests_waiting", 1)
    await shows(gateway, SOON, FREE)


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_while_tokens_are_generated(gateway: Gateway, stream: bool) -> None:
    async with connected(gateway) as connection:
        await connection.send(post(chat(stream=stream, **LONG)))
        await shows(gateway, PROMPTLY, {"vllm:num_requests_running": 1, "gateway_in_flight": 1})
    await shows(gateway, SOON, FREE)


async def test_leaving_after_having_stopped_reading(gateway: Gateway) -> None:
    async with small_window(gateway) as connection:
        body = chat(stream=True, n=8, temperature=1, logprobs=True, top_logprobs=20, ignore_eos=True)
        await connection.send(post(body | {"max_tokens": MOST_LOGPROBS // (8 * 21)}))
        assert (await connection.head())[0] == 200
        before, said = -1.0, 0.0
        async with asyncio.timeout(60):
            while said > before:  # until the gateway can send no more
                await asyncio.sleep(0.5)
                before, said = said, await metric(gateway, "gateway_completion_tokens_total")
        assert await metric(gateway, "gateway_in_flight") == 1
    await shows(gateway, SOON, FREE)


@asynccontextmanager
async def small_window(gateway: Gateway) -> AsyncIterator[Connection]:
    """Yield a connection with a small receive buffer."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.setblocking(False)  # its one parameter
        await asyncio.get_running_loop().sock_connect(made, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=made, limit=4096)
        try:
            yield Connection(reader, writer)
        finally:
            writer.transport.abort()
