"""One connection's requests are answered in turn; what is wrong on it costs nobody an answer that is due."""

import asyncio
import socket
from contextlib import AsyncExitStack

import orjson
import pytest

from tests.api.asking import chat, reaches
from tests.api.wire import CHAT, LIVE, Connection, connected, head, post
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, metric, scripted_gateway, until

DONE = b"data: [DONE]\n\n\r\n0\r\n\r\n"
LARGE = head("GET", "/docs/swagger-ui-bundle.js")  # its answer is over a megabyte
LIVES = b'{"status":"live"}'


async def refused(connection: Connection, status: int, code: str) -> None:
    """Expect an error, and that the connection is closed after it."""
    answer = await connection.answer()
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers["connection"] == "close"
    assert await connection.rest() == b""


@pytest.mark.parametrize("junk", [b"}} and more", b"BREW / HTTP/1.1\r\n\r\n", head("GET", "/", "a b: c")])
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "later"])
async def test_what_is_wrong_after_a_request_is_told_after_its_answer(junk: bytes, *, apart: bool) -> None:
    async with (
        scripted_gateway(ScriptedEngine(pause=0.05)) as gateway,
        connected(gateway) as connection,
    ):
        for part in [post(chat()), junk] if apart else [post(chat()) + junk]:
            await connection.send(part)
            await asyncio.sleep(0.02)
        assert (await connection.answer()).status == 200
        await refused(connection, 400, "invalid_http")


async def test_a_later_body_that_is_broken_costs_no_earlier_answer() -> None:
    async with (
        scripted_gateway(ScriptedEngine(pause=0.05)) as gateway,
        connected(gateway) as connection,
    ):
        broken = head("POST", CHAT, "transfer-encoding: chunked") + b"zz\r\n"
        await connection.send(post(chat()) + LIVE + broken)
        assert (await connection.answer()).status == 200
        assert (await connection.answer()).body == LIVES
        await refused(connection, 400, "invalid_http")


async def test_a_long_answer_outlives_the_time_for_the_next_head() -> None:
    engine = ScriptedEngine(("A",) * 12, pause=0.05)
    async with (
        scripted_gateway(engine, header_timeout=0.2) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(post(chat(stream=True)))
        await until(lambda: engine.running == 1)
        await connection.send(LIVE[:10])
        received = b""
        while not received.endswith(DONE):
            received += await connection.some()
        await refused(connection, 408, "header_timeout")


async def test_line_breaks_between_requests_are_skipped_and_bring_no_408() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), header_timeout=0.2) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(post(chat()) + b"\r\n")
        assert (await connection.answer()).status == 200
        await connection.send(b"\r\n\r\n")
        await asyncio.sleep(0.4)
        await connection.send(LIVE)
        assert (await connection.answer()).body == LIVES


async def test_a_half_closed_client_gets_all_answers_and_nothing_between_a_streams_pieces() -> None:
    async with (
        scripted_gateway(ScriptedEngine(pause=0.3)) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(post(chat(stream=True)) + LIVE)
        connection.end()
        received = await connection.rest()
    stream = received[received.index(b"HTTP/1.1 200") : received.index(DONE)]
    assert b"100 Continue" not in stream
    assert received.endswith(LIVES)


async def test_a_client_that_leaves_ends_the_request_that_runs_not_only_its_last() -> None:
    engine = ScriptedEngine(pause=20)
    async with scripted_gateway(engine) as gateway:
        async with connected(gateway) as connection:
            await connection.send(post(chat()) + LIVE * 3)
            await until(lambda: engine.running == 1)
        await until(lambda: engine.running == 0, seconds=1.0)
        await reaches(gateway, 1.0, gateway_in_flight=0)


async def test_requests_ahead_of_their_turn_are_bounded() -> None:
    async with (
        scripted_gateway(ScriptedEngine(pause=0.1)) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(post(chat()) + LIVE * 1000)
        assert (await connection.answer()).status == 200
        for _ in range(64):
            assert (await connection.answer()).body == LIVES
        await refused(connection, 503, "overloaded")


async def test_heads_ahead_of_their_turn_are_bounded_in_bytes() -> None:
    async with (
        scripted_gateway(ScriptedEngine(pause=0.1)) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(post(chat()) + head("GET", "/health/live", f"x: {'y' * 10_000}") * 10)
        statuses = [(await connection.answer()).status for _ in range(5)]
        assert statuses == [200, 200, 200, 200, 503]


async def test_a_packet_full_of_upgrades_is_no_error_of_ours(served: Gateway) -> None:
    upgrade = head("GET", "/health/live", "connection: upgrade", "upgrade: x")
    async with connected(served) as connection:
        await connection.send(upgrade * 2000)
        for _ in range(65):  # the first, and those that may be ahead of their turn
            assert (await connection.answer()).body == LIVES
        await refused(connection, 503, "overloaded")


async def test_an_upgrade_with_a_coding_that_nobody_knows_has_its_answer(served: Gateway) -> None:
    upgrade = ("connection: upgrade", "upgrade: h2c", "transfer-encoding: gzip")
    async with connected(served) as connection:
        await connection.send(head("POST", CHAT, *upgrade) + b"abc")
        await refused(connection, 400, "invalid_http")


async def test_an_http_1_0_client_gets_a_stream_without_chunks(served: Gateway) -> None:
    async with connected(served) as connection:
        await connection.send(post(chat(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        top, _, body = (await connection.rest()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in top.lower()
        assert b"connection: close" in top
        events = body.removesuffix(b"data: [DONE]\n\n").split(b"\n\n")
        assert [orjson.loads(event.removeprefix(b"data: "))["object"] for event in events[:-1]] == [
            "chat.completion.chunk"
        ] * 5
        assert events[-1] == b""


@pytest.mark.parametrize("path", ["/health/live", "/openapi.json"])
async def test_an_http_1_0_client_gets_a_whole_answer(served: Gateway, path: str) -> None:
    async with connected(served) as connection, connected(served) as other:
        await connection.send(head("GET", path).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        await other.send(head("GET", path))
        assert (await connection.answer()).body == (await other.answer()).body
        assert await connection.rest() == b""


@pytest.mark.parametrize("hosts", [b"", b"host: a\r\nhost: b\r\n"], ids=["none", "two"])
async def test_a_request_has_one_host(served: Gateway, hosts: bytes) -> None:
    async with connected(served) as connection:
        await connection.send(b"GET /health/live HTTP/1.1\r\n" + hosts + b"\r\n")
        await refused(connection, 400, "invalid_http")
    async with connected(served) as old:
        await old.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert (await old.answer()).status == 200


def connections(gateway: Gateway) -> int:
    assert gateway.server is not None
    return len(gateway.server.server_state.connections)


def unread(gateway: Gateway, requests: bytes) -> socket.socket:
    """Send `requests` on a connection that takes little of the answers."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    client.sendall(requests)
    return client


async def test_answers_that_nobody_takes_hold_no_connection() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), send_timeout=0.4) as gateway,
        AsyncExitStack() as held,
    ):
        for _ in range(3):
            held.enter_context(unread(gateway, LARGE * 20))
        await until(lambda: connections(gateway) == 3)
        await until(lambda: connections(gateway) == 0)
        assert await metric(gateway, "gateway_connections_ended_total", reason="unread") == 3


async def test_a_slow_reader_keeps_its_connection() -> None:
    async with scripted_gateway(ScriptedEngine(), send_timeout=0.8) as gateway:
        with unread(gateway, LARGE * 20) as client:
            client.setblocking(False)
            loop, received = asyncio.get_running_loop(), 0
            for _ in range(50):
                received += len(await loop.sock_recv(client, 2**16))
                await asyncio.sleep(0.03)
            assert received > 0
            assert connections(gateway) == 1


async def test_a_body_that_goes_on_after_its_answer_keeps_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway, AsyncExitStack() as open_:
        assert gateway.server is not None
        monkeypatch.setattr(gateway.server.config, "timeout_keep_alive", 0.3)
        connection = await open_.enter_async_context(connected(gateway))
        await connection.send(head("POST", "/health/live", f"content-length: {10**9}"))
        assert (await connection.answer()).status == 405
        with pytest.raises(ConnectionError):  # noqa: PT012  # which of them is the last is the gateway's to say
            for _ in range(100):
                await connection.send(b"x" * 100)
                await asyncio.sleep(0.03)


async def test_a_connection_closed_to_make_room_is_counted() -> None:
    async with scripted_gateway(ScriptedEngine(), max_connections=2) as gateway, AsyncExitStack() as open_:
        for _ in range(3):
            await open_.enter_async_context(connected(gateway))
        await until(lambda: connections(gateway) == 2)
        assert await metric(gateway, "gateway_connections_ended_total", reason="idle") > 0
        assert await metric(gateway, "gateway_connections") <= 3
