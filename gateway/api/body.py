"""A request's body, bounded in size and in time while it arrives."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from gateway.api import media
from gateway.api.streaming import ClientLeft
from gateway.errors import BodyTimeout, BodyTooLarge
from gateway.settings import Settings

AHEAD = 2**16  # bytes of a body read before its request has a queue permit: as many as uvicorn buffers anyway
GRACE = 5.0  # seconds before a body's rate counts
MIN_RATE = 1000  # bytes per second, on average, after GRACE


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


def announced(headers: Headers) -> int | None:
    """Return how many bytes the body will have, None if its headers do not say."""
    length = headers.get("content-length", "")
    plain = headers.get("content-encoding", "identity").lower() == "identity"
    return int(length) if plain and length.isascii() and length.isdigit() else None


async def read(headers: Headers, receive: Receive, settings: Settings, *, limit: int | None = None) -> bytes:
    """Return the body, inflated if it is gzip; at most `limit` bytes, by default what the setting allows.

    Raises BodyTooLarge (413), BodyTimeout (408), InvalidValue for bad gzip, and ClientLeft.
    """
    most = settings.body_max_bytes if limit is None else min(limit, settings.body_max_bytes)
    _check_announced(headers, most)
    arrives_in_time = _BodyDeadline(settings.body_timeout)
    inflated = media.inflated(headers, receive)
    try:
        async with asyncio.timeout(None) as patience:
            body = await _collect(inflated, most, lambda size: patience.reschedule(arrives_in_time(size)))
    except TimeoutError:
        raise _late(settings.body_timeout) from None
    return body.removeprefix(media.BOM)


async def stream(headers: Headers, receive: Receive, *, limit: int, longest: float) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, `longest` seconds in all. Raises what `read` raises."""
    _check_announced(headers, limit)
    arrives_in_time = _BodyDeadline(longest)
    size = 0
    more = True
    while more:
        try:
            async with asyncio.timeout_at(arrives_in_time(size)):
                message = await receive()
        except TimeoutError:
            raise _late(longest) from None
        part = _part(message)
        size += len(part)
        _check_size(size, limit)
        yield part
        more = message.get("more_body", False)


def _check_announced(headers: Headers, limit: int) -> None:
    announced = headers.get("content-length")
    if announced is not None and announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise BodyTooLarge(f"the request body is {announced} bytes; the limit is {limit}")


def _late(longest: float) -> BodyTimeout:
    return BodyTimeout(
        f"the request body did not arrive within {longest:g} s, "
        f"or arrived at less than {MIN_RATE} bytes a second"
    )


class _BodyDeadline:
    """The deadline for a body's next bytes, on the loop's clock: by total time and minimum rate."""

    def __init__(self, longest: float) -> None:
        self._began = asyncio.get_running_loop().time()
        self._longest = longest

    def __call__(self, size: int) -> float:
        return self._began + min(self._longest, GRACE + size / MIN_RATE)


async def _collect(receive: Receive, limit: int, came: Callable[[int], None]) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        came(size)
        message = await receive()
        part = _part(message)
        size += len(part)
        _check_size(size, limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientLeft
    part: bytes = message.get("body", b"")
    return part


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise BodyTooLarge(f"the request body is over the limit of {limit} bytes")
