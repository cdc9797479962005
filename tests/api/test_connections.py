"""Connections and request heads are bounded; what is odd but legal in HTTP still gets its answer."""

import asyncio
import socket
from contextlib import AsyncExitStack

import orjson
import pytest

from tests.api.asking import chat, reaches
from tests.api.wire import CHAT, LIVE, PATIENCE, Connection, connected, head, post
from tests.scripted_engine import ScriptedEngine
from tests.servers import PROMPTLY, Gateway, scripted_gateway, until


async def closed(connection: Connection) -> bool:
    return await connection.rest() == b""


async def serves(gateway: Gateway) -> None:
    """An honest client is answered, while the others go on."""
    async with connected(gateway) as other:
        await other.send(LIVE)
        assert (await other.answer()).status == 200


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
            "the request has more than 100 header lines",
        ),
        (
            b"GET / HTTP/1.1\r\na: " + b"b" * 40_000,
            "the request's head is larger than the limit of 32768 bytes",
        ),
        (
            b"GET /" + b"a" * 40_000,
            "the request's head is larger than the limit of 32768 bytes",
        ),
    ],
    ids=["lines", "one value", "target"],
)
async def test_a_head_without_end_is_refused_at_its_bound(served: Gateway, sent: bytes, message: str) -> None:
    async with connected(served) as connection:
        await connection.send(sent)
        answer = await connection.answer()
        assert answer.status == 431
        assert answer.headers["connection"] == "close"
        assert answer.error == {
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": "headers_too_large",
        }
        assert await closed(connection)


@pytest.mark.parametrize("endless", [b"x: " + b"y" * 1000, b"y" * 1000], ids=["trailer", "extension"])
async def test_what_comes_after_a_chunked_body_is_bounded_too(served: Gateway, endless: bytes) -> None:
    async with connected(served) as connection:
        begun = b"0\r\n" if endless.startswith(b"x") else b"1;"
        await connection.send(head("POST", CHAT, "transfer-encoding: chunked") + begun)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await _send_and_await(connection, *[endless] * 200)
    await serves(served)


async def test_headers_in_the_thousands_cost_little_and_a_whole_head_passes(served: Gateway) -> None:
    async with connected(served) as connection:
        await connection.send(head("GET", "/health/live", *(f"x-{i}: {'v' * 300}" for i in range(98))))
        assert (await connection.answer()).status == 200


async def test_a_half_sent_head_is_given_up_with_408_and_an_idle_connection_is_closed() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), header_timeout=0.3) as gateway,
        connected(gateway) as half,
        connected(gateway) as idle,
        connected(gateway) as kept,
    ):
        await half.send(b"GET / HT")
        await kept.send(LIVE)
        assert (await kept.answer()).status == 200
        assert (await half.answer()).error["code"] == "header_timeout"
        assert await closed(idle)
        # After an answer the longer time for kept connections counts, until the next head begins.
        await asyncio.sleep(0.5)
        await kept.send(LIVE[:10])
        assert (await kept.answer()).status == 408


async def test_the_longest_idle_connection_makes_room_for_a_new_one() -> None:
    async with scripted_gateway(ScriptedEngine(), max_connections=5) as gateway, AsyncExitStack() as open_:
        idle = [await open_.enter_async_context(connected(gateway)) for _ in range(5)]
        await serves(gateway)
        assert await closed(idle[0])
        await idle[4].send(LIVE)
        assert (await idle[4].answer()).status == 200


async def test_where_all_connections_work_health_is_answered_and_others_are_sent_away() -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine, max_connections=3) as gateway, AsyncExitStack() as open_:
        for _ in range(3):
            busy = await open_.enter_async_context(connected(gateway))
            await busy.send(post(chat()))
        await until(lambda: engine.running == 3)
        async with connected(gateway) as other:
            await other.send(head("GET", "/v1/models"))
            answer = await other.answer()
            assert (answer.status, answer.error["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"] == "5"
        await serves(gateway)


async def test_one_address_can_have_so_many_connections_and_no_more() -> None:
    engine = ScriptedEngine(pause=60)
    async with (
        scripted_gateway(engine, max_connections_per_address=1) as gateway,
        connected(gateway) as busy,
    ):
        await busy.send(post(chat()))
        await until(lambda: engine.running == 1)
        async with connected(gateway) as second:
            await second.send(head("GET", "/v1/models"))
            assert (await second.answer()).status == 503


@pytest.mark.parametrize(
    "framing",
    [("content-length", b"%d"), ("transfer-encoding", b"chunked")],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("split", [False, True], ids=["at once", "in two"])
async def test_an_upgrade_is_ignored_and_its_body_is_read(
    served: Gateway, framing: tuple[str, bytes], *, split: bool
) -> None:
    """`curl --http2` sends its request so."""
    body = orjson.dumps(chat())
    name, value = framing
    if name == "content-length":
        value = value % len(body)
    else:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    upgrade = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQA")
    asked = head("POST", CHAT, *upgrade, f"{name}: {value.decode()}")
    async with connected(served) as connection:
        if split:
            await connection.send(asked + body[:20])
            await asyncio.sleep(0.05)
            await connection.send(body[20:])
        else:
            await connection.send(asked + body)
        answer = await connection.answer()
        assert answer.status == 200, answer.body
        await connection.send(head("GET", "/health/live", "connection: upgrade", "upgrade: websocket") + LIVE)
        assert [(await connection.answer()).status for _ in range(2)] == [200, 200]


async def test_what_is_no_http_gets_openais_error(served: Gateway) -> None:
    async with connected(served) as connection:
        await connection.send(b"\x16\x03\x01\x02\x00\x01\x00")
        answer = await connection.answer()
        assert (answer.status, answer.error["code"]) == (400, "invalid_http")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_half_closed_client_gets_its_answer(*, stream: bool) -> None:
    engine = ScriptedEngine(pause=0.3)
    async with scripted_gateway(engine) as gateway:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(post(chat(stream=stream)))
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            content = await reader.read()
        assert b" circle." in content
        assert content.rstrip().endswith(b"0" if stream else b"}")
        writer.close()


async def test_a_client_that_has_gone_altogether_is_noticed_while_nothing_is_sent() -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine) as gateway:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(post(chat()))
            await until(lambda: engine.running == 1)
        await until(lambda: engine.running == 0, PROMPTLY)
        await reaches(gateway, gateway_in_flight=0)


async def test_a_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.body.GRACE", 0.2)
    async with scripted_gateway(ScriptedEngine()) as gateway, connected(gateway) as connection:
        await connection.send(head("POST", CHAT, "content-length: 5000"))
        trickling = asyncio.create_task(_trickle(connection))
        answer = await connection.answer()
        trickling.cancel()
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")


async def _trickle(connection: Connection) -> None:
    while True:
        await connection.send(b" ")
        await asyncio.sleep(0.05)


async def _send_and_await(connection: Connection, *parts: bytes) -> None:
    for part in parts:
        await connection.send(part)
        await asyncio.sleep(0.001)
    await connection.answer()


async def test_a_body_of_very_many_tiny_chunks_is_refused(served: Gateway) -> None:
    async with connected(served) as connection:
        await connection.send(head("POST", CHAT, "transfer-encoding: chunked") + b"1\r\n \r\n" * 5000)
        answer = await connection.answer()
        assert (answer.status, answer.error["code"]) == (400, "invalid_http")
        assert await closed(connection)
    await serves(served)


async def test_a_body_of_some_tiny_chunks_and_one_of_many_larger_ones_are_read(served: Gateway) -> None:
    tiny = orjson.dumps(chat())
    large = orjson.dumps(chat(messages=[{"role": "user", "content": "a" * 160_000}]))
    for body, size, status in ((tiny, 1, 200), (large, 40, 400)):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        async with connected(served) as connection:
            await connection.send(head("POST", CHAT, "transfer-encoding: chunked") + chunks + b"0\r\n\r\n")
            answer = await connection.answer()
            assert answer.status == status
            assert status == 200 or answer.error["code"] == "context_length_exceeded"
