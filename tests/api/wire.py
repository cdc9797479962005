"""HTTP byte by byte, for what a client library would hide."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from tests.servers import Gateway

PATIENCE = 30.0  # seconds: far more than anything here takes, on a busy machine too


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in the body, which must be OpenAI's object: `error` alone, with its four keys."""
        content = orjson.loads(self.body)
        assert list(content) == ["error"]
        error: dict[str, Any] = content["error"]
        assert sorted(error) == ["code", "message", "param", "type"]
        return error


class Connection:
    """One connection to a gateway, on which the test says every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        """Close the sending half."""
        self._writer.write_eof()

    async def answer(self, seconds: float = PATIENCE) -> Answer:
        """Return the next answer on the connection, whole."""
        async with asyncio.timeout(seconds):
            status, headers = await self.head()
            if headers.get("transfer-encoding") == "chunked":
                body = await self._chunks()
            else:
                body = await self._reader.readexactly(int(headers.get("content-length", 0)))
            return Answer(status, headers, body)

    async def head(self) -> tuple[int, dict[str, str]]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in head[1:] if line)
        return int(head[0].split()[1]), {name.lower(): value for name, _, value in fields}

    async def rest(self) -> bytes:
        """Return what comes until the server closes the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()

    async def some(self) -> bytes:
        """Return what comes next."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read(65536)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return body


@asynccontextmanager
async def connected(gateway: Gateway) -> AsyncIterator[Connection]:
    """Yield a connection that is closed, as a client that leaves closes it, at the block's end."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()  # what it has not sent yet is never sent


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *headers, "", ""]).encode("latin-1")


def post(body: Any, *headers: str) -> bytes:
    """Return a whole chat request; `body` is bytes, or becomes JSON."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return head("POST", CHAT, f"content-length: {len(content)}", *headers) + content


CHAT = "/v1/chat/completions"
LIVE = head("GET", "/health/live")
