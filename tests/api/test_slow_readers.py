"""Clients that take nothing of a large answer: ticket and memory are given back, connections aborted."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from tests.api.asking import ask, chat, idle, image, reaches, saying, send
from tests.api.wire import CHAT, head, post
from tests.images.pictures import url_of
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, metric, samples, scripted_gateway

LARGE = 2**24  # bytes: more than the kernel's buffers hold
TIMEOUT = 0.5  # seconds that a client may take nothing


@pytest.fixture(scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    async with scripted_gateway(ScriptedEngine(("x" * LARGE,)), send_timeout=TIMEOUT) as running:
        yield running


@asynccontextmanager
async def unread(gateway: Gateway, request: bytes) -> AsyncIterator[socket.socket]:
    """Send `request` and take nothing of its answer."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (host, int(port)))
        await loop.sock_sendall(sock, request)
        yield sock


async def taken(sock: socket.socket) -> int:
    """Return how many bytes are still to be had on a connection, which must end."""
    size = 0
    async with asyncio.timeout(10):
        try:
            while data := await asyncio.get_running_loop().sock_recv(sock, 2**16):
                size += len(data)
        except ConnectionResetError:
            pass
    return size


async def aborted(gateway: Gateway) -> float:
    """Return how many connections were aborted because their clients took nothing."""
    ended = await samples(gateway, "gateway_connections_ended_total")
    return sum(sample.value for sample in ended if sample.labels["reason"] == "unread")


async def test_an_answer_that_nobody_takes_keeps_its_ticket_for_so_long(gateway: Gateway) -> None:
    before = await aborted(gateway)
    async with unread(gateway, post(chat())) as sock:
        await reaches(gateway, gateway_in_flight=1)
        await idle(gateway, TIMEOUT + 4)
        while await aborted(gateway) == before:  # noqa: ASYNC110  # it is asked over HTTP
            await asyncio.sleep(0.02)
        assert await taken(sock) < LARGE


async def test_a_large_answer_that_is_taken_comes_whole(gateway: Gateway) -> None:
    answer = await ask(gateway)
    assert orjson.loads(answer.body)["choices"][0]["message"]["content"] == "x" * LARGE
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert "server-timing" in answer.headers
    await idle(gateway)


def noise(seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (336, 336, 3), dtype=np.uint8)
    return url_of(Image.fromarray(pixels), "JPEG")


async def test_rendered_images_that_nobody_takes_keep_their_memory_for_so_long(gateway: Gateway) -> None:
    fits = ["pad", "crop", "squash"]
    body = orjson.dumps(chat(messages=saying(*(image(noise(n)) for n in range(7))), render_fits=fits))
    length = f"content-length: {len(body)}"
    async with unread(gateway, head("POST", f"{CHAT}/render", length) + body):
        await holds(gateway, 2 * 8 * 7 * 3 * 336**2)
        await holds(gateway, 0)


async def test_a_file_that_nobody_takes_keeps_its_memory_for_so_long(gateway: Gateway) -> None:
    form: dict[str, Any] = {"files": {"file": ("a", bytes(LARGE))}, "data": {"purpose": "user_data"}}
    file = orjson.loads((await send(gateway, "POST", "/v1/files", **form)).body)["id"]
    before = await aborted(gateway)
    async with unread(gateway, head("GET", f"/v1/files/{file}/content")) as sock:
        await holds(gateway, 2 * 2**20)
        await holds(gateway, 0)
        while await aborted(gateway) == before:  # noqa: ASYNC110  # it is asked over HTTP
            await asyncio.sleep(0.02)
        assert await taken(sock) < LARGE


async def holds(gateway: Gateway, size: int) -> None:
    """Return once so much memory is held for what is stored."""
    async with asyncio.timeout(10):
        while await metric(gateway, "gateway_memory_held_bytes", kind="stored") != size:  # noqa: ASYNC110  # it is asked over HTTP
            await asyncio.sleep(0.02)
