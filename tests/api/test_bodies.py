"""Bodies are bounded in size and time while they arrive; a refused one does not spoil its connection."""

import asyncio
from itertools import repeat

import orjson
import pytest

from tests.api.asking import chat, idle
from tests.api.wire import CHAT, LIVE, Connection, connected, head, post
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, metric, scripted_gateway

LIMIT = 1000
SMUGGLED = head("GET", "/smuggled")


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def padded(length: int) -> bytes:
    return orjson.dumps(chat()).ljust(length)


async def serves(connection: Connection) -> None:
    """The connection's next answer is the one to its next request."""
    await connection.send(LIVE)
    assert (await connection.answer()).body == b'{"status":"live"}'


async def test_body_of_the_limit_is_read() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), body_max_bytes=LIMIT) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(post(padded(LIMIT)))
        assert (await connection.answer()).status == 200
        await connection.send(head("POST", CHAT, "transfer-encoding: chunked"))
        await connection.send(chunked(padded(LIMIT)[:400], padded(LIMIT)[400:]) + b"0\r\n\r\n")
        assert (await connection.answer()).status == 200


async def test_body_announced_too_large_is_refused_before_it_comes() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), body_max_bytes=LIMIT) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(head("POST", CHAT, f"content-length: {LIMIT + 1}"))
        answer = await connection.answer()
        assert answer.status == 413
        assert answer.error == {
            "message": "the request body is 1001 bytes; the limit is 1000",
            "type": "invalid_request_error",
            "param": None,
            "code": "request_too_large",
        }


@pytest.mark.parametrize("ended", [False, True])
async def test_body_of_unannounced_length_is_refused_where_it_passes_the_limit(ended: bool) -> None:
    async with (
        scripted_gateway(ScriptedEngine(), body_max_bytes=LIMIT) as gateway,
        connected(gateway) as connection,
    ):
        end = b"0\r\n\r\n" if ended else b""
        await connection.send(head("POST", CHAT, "transfer-encoding: chunked"))
        await connection.send(chunked(*repeat(b"x" * 100, 11)) + end)
        answer = await connection.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        await idle(gateway)


async def test_rest_of_a_refused_body_is_no_request_and_the_next_request_is_served() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), body_max_bytes=LIMIT) as gateway,
        connected(gateway) as connection,
    ):
        rest = SMUGGLED * 10
        await connection.send(head("POST", CHAT, f"content-length: {5000 + len(rest)}"))
        assert (await connection.answer()).status == 413
        await connection.send(bytes(5000) + rest)
        await serves(connection)
        await connection.send(head("POST", CHAT, "transfer-encoding: chunked"))
        await connection.send(chunked(bytes(5000)))
        assert (await connection.answer()).status == 413
        await connection.send(chunked(rest) + b"0\r\n\r\n")
        await serves(connection)
        assert await metric(gateway, "gateway_requests_total", route=CHAT, status="413") == 2
        with pytest.raises(AssertionError, match="there is no metric"):
            await metric(gateway, "gateway_requests_total", route="unmatched")


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/nothing", 404), ("PUT", CHAT, 405)])
async def test_body_that_nobody_wanted_is_no_request(
    served: Gateway, method: str, path: str, status: int
) -> None:
    async with connected(served) as connection:
        await connection.send(head(method, path, f"content-length: {len(SMUGGLED)}") + SMUGGLED)
        assert (await connection.answer()).status == status
        await serves(connection)


async def test_slow_body_is_a_408_and_the_connection_closed() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), body_timeout=0.3) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(head("POST", CHAT, "content-length: 1000"))
        for _ in range(2):
            await connection.send(b"{")
            await asyncio.sleep(0.1)
        answer = await connection.answer()
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        assert answer.error["message"] == (
            "the request body did not arrive within 0.3 s, or arrived at less than 1000 bytes a second"
        )
        assert answer.headers["connection"] == "close"
        assert await connection.rest() == b""
        await idle(gateway)


async def test_body_that_awaits_a_go_ahead_gets_it(served: Gateway) -> None:
    async with connected(served) as connection:
        body = padded(200)
        await connection.send(head("POST", CHAT, "content-length: 200", "expect: 100-continue"))
        assert (await connection.head())[0] == 100
        await connection.send(body)
        assert (await connection.answer()).status == 200
        await serves(connection)


async def test_body_refused_before_its_go_ahead_closes_the_connection() -> None:
    """What comes next may be that body or another request; who guesses can be fooled (RFC 9110, 10.1.1)."""
    async with (
        scripted_gateway(ScriptedEngine(), body_max_bytes=LIMIT) as gateway,
        connected(gateway) as connection,
    ):
        await connection.send(head("POST", CHAT, "content-length: 5000", "expect: 100-continue"))
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert await connection.rest() == b""


async def test_requests_sent_ahead_are_answered_in_their_order(served: Gateway) -> None:
    async with connected(served) as connection:
        await connection.send(post(chat()) + head("GET", "/nothing") + post(b"{") + LIVE)
        assert [(await connection.answer()).status for _ in range(4)] == [200, 404, 400, 200]
