"""A request's body, bounded in size and in time while it arrives."""

import asyncio

from starlette.requests import Request

from gateway.api.responses import ClientLeft
from gateway.errors import BodyTimeout, BodyTooLarge
from gateway.settings import Settings


async def read(request: Request, settings: Settings) -> bytes | bytearray:
    """Return the whole body. Raises BodyTooLarge (413), BodyTimeout (408) and ClientLeft."""
    limit = settings.body_max_bytes
    announced = request.headers.get("content-length")
    if announced is not None and announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise BodyTooLarge(f"the request body is {announced} bytes; the limit is {limit}")
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await _collect(request, limit)
    except TimeoutError:
        raise BodyTimeout(f"the request body did not arrive within {settings.body_timeout:g} s") from None


async def _collect(request: Request, limit: int) -> bytes | bytearray:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part: bytes = message.get("body", b"")
        if not body and not message.get("more_body", False):
            if len(part) > limit:
                raise BodyTooLarge(f"the request body is over {limit} bytes")
            return part
        body += part
        if len(body) > limit:
            raise BodyTooLarge(f"the request body is over the limit of {limit} bytes")
        if not message.get("more_body", False):
            return body
