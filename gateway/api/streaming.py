"""How an answer is sent: as JSON, or as a stream that keeps its resources until it ends."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from gateway.answering.answer import Answer
from gateway.errors import GatewayError
from gateway.schema.chat_answer import TimedUsage, Usage

PIECE_BYTES = (
    2**16
)  # of an answer that is sent at once: what uvicorn keeps of it while the client does not read


class ClientLeft(Exception):
    """The client closed its connection before the answer was complete."""


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, dict(headers or {}), "application/json")


def last_usage(answer: Answer[Any], *, timed: bool | None) -> Usage:
    """Return the usage for a stream's last chunk, with the request's timings if `timed`."""
    return TimedUsage.of(answer.usage, answer.context.log.timing) if timed else answer.usage


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel what runs inside when the client leaves, and raise ClientLeft.

    Whatever else `receive` returns is lost: the body must have been read, or be kept by `receive` itself.
    """
    task = asyncio.current_task()
    assert task is not None  # we run in one
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        watcher.cancel()


class Pieces(Response):
    """An answer in pieces. Whatever `held` holds is released when it ends, however it ends.

    A generator's own `finally` can run late when the client leaves while a send blocks, so nothing that must
    be released is left to one.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes],
        held: AsyncExitStack,
        send_timeout: float,
        headers: Mapping[str, str],
        status: int = 200,
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        if "content-length" not in headers:
            del self.headers["content-length"]
        self._pieces = pieces
        self._held = held
        self._send_timeout = send_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's form
        try:
            await self._stream(receive, send)
        except GatewayError:
            # The client stopped reading, so it would not read an error event either.
            raise ClientLeft from None

    async def _stream(self, receive: Receive, send: Send) -> None:
        async with self._held, aclosing(self._pieces), while_connected(receive):
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            try:
                await self._send_pieces(send)
            except TimeoutError:
                raise ClientLeft from None

    async def _send_pieces(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        async with asyncio.timeout(None) as patience:
            async for piece in self._pieces:
                # A client that reads nothing must not keep its queue permit.
                patience.reschedule(now() + self._send_timeout)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                patience.reschedule(None)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(Pieces):
    """Server-sent events."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        held: AsyncExitStack,
        send_timeout: float,
        headers: Mapping[str, str],
    ) -> None:
        # Proxies such as nginx must pass events on as they come.
        own = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, held, send_timeout, {**own, **headers})


def until_sent(answer: Response, held: AsyncExitStack, send_timeout: float) -> Response:
    """Return `answer`; where it is large, what `held` holds is kept until its client has taken it."""
    if len(answer.body) <= PIECE_BYTES:
        return answer
    return Pieces(_cut(answer.body), held.pop_all(), send_timeout, answer.headers, answer.status_code)


async def _cut(body: bytes | memoryview) -> AsyncGenerator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])
