"""A request's body, bounded in size and in time while it arrives."""

import asyncio
from collections import deque

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from gateway.api.streaming import ClientLeft
from gateway.errors import BodyTimeout, BodyTooLarge
from gateway.settings import Settings

AHEAD = 2**16  # bytes of a body that are read while it waits for a ticket: as many as uvicorn keeps anyway


class ReadAhead:
    """The connection of a request that waits: a client that leaves can only be noticed by reading.

    `look` reads a little of the body, keeps it and then reads no more; `receive` returns what was kept first.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self._bytes = 0

    async def look(self) -> Message:
        if self._bytes >= AHEAD:
            await asyncio.Future()  # until cancelled
        message = await self._receive()
        self._kept.append(message)
        self._bytes += len(message.get("body", b""))
        return message

    async def receive(self) -> Message:
        return self._kept.popleft() if self._kept else await self._receive()


async def read(headers: Headers, receive: Receive, settings: Settings) -> bytes:
    """Return the whole body. Raises BodyTooLarge (413), BodyTimeout (408) and ClientLeft."""
    limit = settings.body_max_bytes
    announced = headers.get("content-length")
    if announced is not None and announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise BodyTooLarge(f"the request body is {announced} bytes; the limit is {limit}")
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await _collect(receive, limit)
    except TimeoutError:
        raise BodyTimeout(f"the request body did not arrive within {settings.body_timeout:g} s") from None


async def _collect(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"the request body is over the limit of {limit} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
