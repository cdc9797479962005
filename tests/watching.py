"""Sees every answer of the gateways that tests run, and keeps what is wrong with it."""

from collections.abc import AsyncIterator

import httpx2
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tools.conformance.bodies import check

FOUND: list[str] = []  # since the last test


class Watch:
    """The application, watched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, kind, parts = 0, "", list[bytes]()

        async def watched(message: Message) -> None:
            nonlocal status, kind
            if message["type"] == "http.response.start":
                status = message["status"]
                kind = dict(message["headers"]).get(b"content-type", b"").decode()
            else:
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    where = f"{scope['method']} {scope['path'].removesuffix('/')}"
                    note(where, status, kind, b"".join(parts))
            await send(message)

        await self._app(scope, receive, watched)


class WatchedStream(httpx2.AsyncByteStream):
    """A response's bytes as a client reads them; noted once they are all read."""

    def __init__(self, response: httpx2.Response, where: str) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._stream = response.stream
        self._status = response.status_code
        self._kind = response.headers.get("content-type", "")
        self._where = where

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = []
        async for part in self._stream:
            parts.append(part)
            yield part
        note(self._where, self._status, self._kind, b"".join(parts))

    async def aclose(self) -> None:
        await self._stream.aclose()


def note(where: str, status: int, kind: str, content: bytes) -> None:
    """Keep what is wrong with an answer."""
    FOUND.extend(f"{where} ({status}): {problem}" for problem in check(where, status, kind, content))
