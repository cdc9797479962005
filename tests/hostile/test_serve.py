"""The real command `serve`, with few files to open and the scripted engine, under what hardly is HTTP."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import orjson
import psutil
import pytest

from gateway.telemetry.sampling import PER_SECOND
from tests.api.asking import chat, reaches, send
from tests.api.wire import CHAT, connected, head, post
from tests.hostile.cases import serves
from tests.servers import PROMPTLY, Gateway, samples, served_scripted

pytestmark = pytest.mark.slow

FILES = 1024  # ulimit -n
PROMPT = 3.0  # seconds within which others are answered meanwhile, on a busy machine too
GROWTH = 64 * 2**20  # bytes that an attack may take
MANY = 1000  # refusals


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("served")
    with served_scripted(folder, files=FILES, header_timeout="2") as running:
        yield running


@asynccontextmanager
async def others_served(gateway: Gateway) -> AsyncIterator[None]:
    """Expect other clients to be answered at once, all the time, and memory to stay as it was."""
    process = psutil.Process(gateway.pid)
    before, slowest = process.memory_info().rss, 0.0

    async def ask() -> None:
        nonlocal slowest
        while True:
            began = time.monotonic()
            await serves(gateway)
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.02)

    asking = asyncio.create_task(ask())
    try:
        yield
        await asyncio.sleep(0.2)
        assert not asking.done(), asking.exception()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert 0 < slowest < PROMPT
    assert process.memory_info().rss - before < GROWTH


async def test_headers_without_end_are_cut_off(served: Gateway) -> None:
    async with others_served(served), connected(served) as connection:
        await connection.send(b"GET /v1/models HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):  # noqa: PT012  # which of them is the last is the gateway's to say
            for _ in range(10_000):
                await connection.send(b"x: y\r\n" * 10_000)
                await asyncio.sleep(0)


async def test_a_thousand_idle_connections_keep_nobody_out(served: Gateway) -> None:
    async with others_served(served), AsyncExitStack() as held:
        for _ in range(1000):
            await held.enter_async_context(connected(served))
        await asyncio.sleep(0.5)
    assert served.log is not None
    assert f"The limit on open files, {FILES} (ulimit -n), is too low" in served.log.read_text().replace(
        "\n", " "
    )


async def test_large_answers_that_nobody_takes_keep_nobody_out_and_take_no_memory(served: Gateway) -> None:
    async with others_served(served), AsyncExitStack() as held:
        for _ in range(300):
            client = held.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            host, _, port = served.url.removeprefix("http://").partition(":")
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (host, int(port)))
            await loop.sock_sendall(client, head("GET", "/docs/swagger-ui-bundle.js") * 5)
        await asyncio.sleep(0.5)


async def test_half_sent_headers_end_with_408_in_time(served: Gateway) -> None:
    async with others_served(served), connected(served) as connection:
        await connection.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-half: ")
        began = time.monotonic()
        answer = await connection.answer()
        assert (answer.status, answer.error["code"]) == (408, "header_timeout")
        assert time.monotonic() - began < PROMPTLY


async def test_a_body_of_a_byte_each_two_seconds_ends_with_408(served: Gateway) -> None:
    async with others_served(served), connected(served) as connection:
        await connection.send(head("POST", CHAT, "content-length: 5000"))
        answer = asyncio.create_task(connection.answer(15))
        while not answer.done():
            await connection.send(b" ")
            await asyncio.wait({answer}, timeout=2)
        assert ((await answer).status, answer.result().error["code"]) == (408, "request_timeout")


async def test_an_upgrade_to_h2c_keeps_its_body(served: Gateway) -> None:
    """`curl --http2` sends its request so."""
    upgrade = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQA")
    async with connected(served) as connection:
        await connection.send(post(chat(), *upgrade))
        assert (await connection.answer()).status == 200


@pytest.mark.parametrize("sent", [b"EHLO there\r\n\r\n", head("GET", "/", "a b: c"), b"\x16\x03\x01\x02"])
async def test_errors_of_the_parser_are_openais_object(served: Gateway, sent: bytes) -> None:
    async with connected(served) as connection:
        await connection.send(sent)
        answer = await connection.answer()
        assert (answer.status, answer.error["code"]) == (400, "invalid_http")
        assert answer.headers["connection"] == "close"


async def test_thousands_of_refusals_write_few_lines_and_are_counted_whole(served: Gateway) -> None:
    assert served.log is not None
    before, written = await _refused(served), served.log.stat().st_size
    refused, began = 0, time.monotonic()

    async def refuse() -> None:
        nonlocal refused
        many = post(chat(n=99)) * 50
        async with connected(served) as connection:
            while time.monotonic() - began < 2 or refused < MANY:
                await connection.send(many)
                for _ in range(50):
                    assert (await connection.answer()).status == 400
                    refused += 1

    async with others_served(served):
        await asyncio.gather(*(refuse() for _ in range(4)))
    seconds = time.monotonic() - began
    assert await _refused(served) - before == refused >= MANY
    with served.log.open("rb") as log:
        log.seek(written)
        lines = [orjson.loads(line) for line in log if b'"outcome":"refused:' in line]
    assert 0 < len(lines) <= PER_SECOND * (seconds + 2)
    assert len(lines) < refused


async def _refused(gateway: Gateway) -> float:
    return sum(
        sample.value
        for sample in await samples(gateway, "gateway_request_outcomes_total")
        if sample.labels["outcome"] == "refused"
    )


async def shutting_down(gateway: Gateway) -> None:
    """Return once a gateway that was told to end takes nothing new."""
    async with asyncio.timeout(PROMPTLY):
        while (await send(gateway, "POST", CHAT, content=b"{}")).status != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_second_sigterm_ends_what_the_first_lets_run(tmp_path: Path) -> None:
    with served_scripted(tmp_path, files=FILES, shutdown_timeout="30") as gateway:
        process = psutil.Process(gateway.pid)
        async with connected(gateway) as running, connected(gateway) as late:
            await running.send(head("POST", CHAT, "content-length: 1000") + b"{")
            await reaches(gateway, gateway_in_flight=1)
            process.send_signal(signal.SIGTERM)
            await shutting_down(gateway)
            await late.send(post(chat()))
            answer = await late.answer()
            assert (answer.status, answer.error["code"]) == (503, "shutting_down")
            assert answer.headers["connection"] == "close"
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            while process.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110  # `served_scripted` waits for it
                await asyncio.sleep(0.02)
            assert time.monotonic() - began < PROMPTLY
