"""Whoever leaves, at any step, releases everything, and the next request is served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.api.asking import ask, chat, idle, image, reaches, saying
from tests.api.wire import CHAT, LIVE, connected, head, post
from tests.scripted_engine import ScriptedEngine
from tests.servers import PROMPTLY, Gateway, metric, scripted_gateway, until

LONG = ScriptedEngine.words * 1000


@dataclass
class SilentSite:
    """A server of pictures that takes every request and answers none."""

    url: str = ""
    open: int = 0


@asynccontextmanager
async def silent_site() -> AsyncIterator[SilentSite]:
    site = SilentSite()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        site.open += 1
        await reader.read()  # until the other side leaves, for it says nothing after its request
        while await reader.read(1000):
            pass
        site.open -= 1
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        site.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/picture.png"
        yield site


async def still_serves(gateway: Gateway, engine: ScriptedEngine) -> None:
    """Everything is released long before the engine is through, and the only ticket there is can be had."""
    await until(lambda: engine.running == 0, PROMPTLY)
    await idle(gateway)
    engine.pause, engine.words = 0, ("A",)
    assert (await ask(gateway)).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_client_that_leaves_before_the_first_delta(stream: bool) -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine, max_running=1) as gateway:
        async with connected(gateway) as connection:
            await connection.send(post(chat(stream=stream)))
            await until(lambda: engine.running == 1)
        await still_serves(gateway, engine)
        assert await metric(gateway, "gateway_requests_total", route=CHAT, status="499") == 1


async def test_client_that_leaves_mid_stream() -> None:
    engine = ScriptedEngine(LONG, pause=0.01)
    async with scripted_gateway(engine, max_running=1) as gateway:
        async with connected(gateway) as connection:
            await connection.send(post(chat(stream=True)))
            await connection.head()
            assert (await connection.some()).count(b"data:") >= 1
        await still_serves(gateway, engine)


async def test_client_that_takes_nothing_of_its_answer() -> None:
    engine = ScriptedEngine(("x" * 2**20,) * 64)
    async with (
        scripted_gateway(engine, max_running=1, send_timeout=0.2) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(post(chat(stream=True)))
        await until(lambda: engine.running == 1)
        await still_serves(gateway, engine)


async def test_client_that_leaves_in_the_middle_of_a_whole_answer() -> None:
    engine = ScriptedEngine(LONG, pause=0.01)
    async with scripted_gateway(engine, max_running=1) as gateway:
        async with connected(gateway) as connection:
            await connection.send(post(chat()))
            await until(lambda: engine.running == 1)
        await still_serves(gateway, engine)


async def test_client_that_stopped_reading_leaves_while_a_send_waits_for_it() -> None:
    engine = ScriptedEngine(("x" * 100_000,) * 1000)
    async with scripted_gateway(engine, max_running=1) as gateway:
        async with connected(gateway) as connection:
            await connection.send(post(chat(stream=True)))
            await connection.head()
            before, said = -1.0, 0.0
            while said > before:  # until nothing more fits between the two
                await asyncio.sleep(0.2)
                before, said = said, await metric(gateway, "gateway_completion_tokens_total")
            assert 0 < said < 1000
        await still_serves(gateway, engine)


@pytest.mark.parametrize(
    "sent",
    [
        head("POST", CHAT, "content-length: 1000") + b'{"model"',
        head("POST", CHAT, "content-length: 1000"),
        head("POST", CHAT, "transfer-encoding: chunked") + b'5\r\n{"mod\r\n',
        head("POST", CHAT, "content-length: 3000000") + bytes(2_000_000),
    ],
)
async def test_client_that_leaves_mid_body(sent: bytes) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine, max_running=1) as gateway:
        async with connected(gateway) as connection:
            await connection.send(sent)
            await reaches(gateway, gateway_in_flight=1)
        await still_serves(gateway, engine)
    assert len(engine.jobs) == 1


@pytest.mark.parametrize(
    "sent",
    [
        post(chat()),
        post(chat(stream=True)),
        head("POST", CHAT, "content-length: 1000") + b'{"model"',
        head("POST", CHAT, "content-length: 1000"),
    ],
)
async def test_client_that_leaves_while_it_waits_for_a_ticket(sent: bytes) -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine, max_running=1) as gateway:
        async with connected(gateway) as running:
            await running.send(post(chat()))
            await until(lambda: engine.running == 1)
            async with connected(gateway) as waiting:
                await waiting.send(sent)
                await reaches(gateway, gateway_waiting=1, gateway_in_flight=1)
            await reaches(gateway, gateway_waiting=0, gateway_in_flight=1)
        await still_serves(gateway, engine)
    assert len(engine.jobs) == 2


@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
async def test_client_that_leaves_while_it_waits_for_memory(path: str) -> None:
    large = head("POST", path, "content-length: 400000")
    async with (
        scripted_gateway(ScriptedEngine(), memory_bodies=2**20) as gateway,
        connected(gateway) as first,
    ):
        await first.send(large)  # has the memory for its body, which does not come
        await reaches(gateway, gateway_in_flight=1)
        async with connected(gateway) as second:
            await second.send(large)
            await reaches(gateway, gateway_in_flight=2)
        await reaches(gateway, gateway_in_flight=1)


async def test_client_that_leaves_while_its_picture_is_fetched() -> None:
    engine = ScriptedEngine()
    async with (
        silent_site() as site,
        scripted_gateway(engine, max_running=1, fetch_allow=("127.0.0.1",)) as gateway,
    ):
        async with connected(gateway) as connection:
            await connection.send(post(chat(messages=saying(image(site.url)))))
            await until(lambda: site.open == 1)
        await until(lambda: site.open == 0, PROMPTLY)
        await still_serves(gateway, engine)
    assert len(engine.jobs) == 1


async def test_many_that_leave_at_once_leave_nothing() -> None:
    engine = ScriptedEngine(LONG, pause=0.01)
    async with scripted_gateway(engine, max_running=8) as gateway:

        async def leave(after: float) -> None:
            async with connected(gateway) as connection:
                await connection.send(post(chat(stream=True, n=2)))
                await asyncio.sleep(after)

        await asyncio.gather(*(leave(number / 50) for number in range(40)))
        await still_serves(gateway, engine)


async def test_request_that_waits_holds_no_large_body() -> None:
    engine = ScriptedEngine(pause=60)
    large = post(chat(messages=[{"role": "user", "content": "x" * 2**25}]))
    async with scripted_gateway(engine, max_running=1) as gateway:
        async with connected(gateway) as running:
            await running.send(post(chat()))
            await until(lambda: engine.running == 1)
            async with connected(gateway) as waiting:
                sending = asyncio.create_task(waiting.send(large))
                await reaches(gateway, gateway_waiting=1)
                # What the gateway does not read stays with its sender.
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(sending, 0.5)
            # Nobody sees that it left before its turn comes; then it is seen at once.
        await still_serves(gateway, engine)


async def test_request_that_waited_is_read_whole_when_its_turn_comes() -> None:
    engine = ScriptedEngine(pause=60)
    body = chat(messages=[{"role": "user", "content": "x" * 1000}])
    padded = post(body).replace(b"content-length: ", b"content-length: 500")  # 500xxxx bytes, the rest blanks
    length = int(padded.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    head_, _, content = padded.partition(b"\r\n\r\n")
    async with scripted_gateway(engine, max_running=1) as gateway, connected(gateway) as waiting:
        async with connected(gateway) as running:
            await running.send(post(chat()))
            await until(lambda: engine.running == 1)
            sending = asyncio.create_task(waiting.send(head_ + b"\r\n\r\n" + content.ljust(length)))
            await reaches(gateway, gateway_waiting=1)
            engine.pause = 0
        await sending
        assert (await waiting.answer()).status == 200
        await waiting.send(LIVE)
        assert (await waiting.answer()).status == 200
