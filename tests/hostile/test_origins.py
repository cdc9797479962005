"""Servers that pictures are fetched from and that do anything but serve one.

Statuses, codings and where a redirect may lead: tests/images/test_fetch.py.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.hostile.cases import Case, holds, of_url
from tests.images.pictures import encoded, noisy
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

PICTURE = encoded(noisy(64, 48))
FAILED = "image_fetch_failed"


@dataclass(frozen=True)
class Origin:
    """Sends `pieces`, `pause` seconds before each, over and over if `endless`; resets instead of closing."""

    name: str
    pieces: tuple[bytes, ...]
    code: str | None = FAILED
    pause: float = 0.0
    endless: bool = False
    reset: bool = False


def ok(body: bytes, *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = ("HTTP/1.1 200 OK", f"content-length: {size}", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1") + body


def to(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BARE = b"HTTP/1.1 200 OK\r\n\r\n"
SAID = {
    "an honest picture": (ok(PICTURE), None),
    "HTML called PNG": (ok(b"<!DOCTYPE html>", "content-type: image/png"), "unsupported_image_format"),
    "PNG called HTML": (ok(PICTURE, "content-type: text/html"), None),
    "no length": (BARE + PICTURE, None),
    "length too small": (ok(PICTURE, length=100), FAILED),
    "length too large": (ok(PICTURE, length=len(PICTURE) + 1), FAILED),
    "length of 10^18": (ok(PICTURE, length=10**18), "image_too_large"),
    "negative length": (ok(PICTURE, length=-1), FAILED),
    "two lengths": (ok(PICTURE, "content-length: 5"), FAILED),
    "nothing in it": (ok(b""), "unsupported_image_format"),
    "nothing at all": (b"", FAILED),
    "half a status": (b"HTTP/1.1 2", FAILED),
    "not HTTP": (b"SSH-2.0-OpenSSH\r\n", FAILED),
    "HTTP/0.9": (PICTURE, FAILED),
    "status 999": (b"HTTP/1.1 999 x\r\ncontent-length: 0\r\n\r\n", FAILED),
    "status 500 with a picture": (ok(PICTURE).replace(b"200 OK", b"500 no"), FAILED),
    "a bomb of gzip": (ok(gzip.compress(bytes(50 * 2**20)), "content-encoding: gzip"), FAILED),
    "a header of 1 MB": (ok(PICTURE, "x: " + "y" * 2**20), FAILED),
    "100,000 headers": (ok(PICTURE, *["x: y"] * 100_000), FAILED),
    "chunks of no size": (CHUNKED + b"zz\r\n", FAILED),
    "a chunk of 2^63": (CHUNKED + b"8000000000000000\r\nx", FAILED),
    "chunks cut off": (CHUNKED + b"5\r\nab", FAILED),
    "a switch of protocols": (b"HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", FAILED),
    "to itself for ever": (to("/"), FAILED),
    "to metadata": (to("http://169.254.169.254/latest/meta-data/"), FAILED),
    "to a data URL": (to("data:image/png;base64,AAAA"), FAILED),
    "to nowhere": (to(""), FAILED),
    "to a user of no host": (to("http://[]@/x.png"), FAILED),
}
ORIGINS = [
    *(Origin(name, (said,), code) for name, (said, code) in SAID.items()),
    Origin("a drip of headers", (b"x: y\r\n",), pause=0.05, endless=True),
    Origin("a drip of the body", (ok(b"", length=10_000), *[b"x"] * 10_000), pause=0.05),
    Origin(
        "chunks without end", (CHUNKED, *[b"ffff\r\n" + bytes(0xFFFF) + b"\r\n"] * 400), "image_too_large"
    ),
    Origin("a reset in the body", (ok(PICTURE[:100], length=10_000),), reset=True),
    Origin("a reset at once", (b"",), reset=True),
]


@pytest.fixture(scope="module")
async def fetching() -> AsyncIterator[Gateway]:
    settings = {"fetch_allow": ("127.0.0.1/32",), "fetch_timeout": 1}
    async with scripted_gateway(ScriptedEngine(), **settings) as running:
        yield running


@pytest.mark.parametrize("origin", ORIGINS, ids=[origin.name for origin in ORIGINS])
async def test_an_origin_that_misbehaves_is_the_fault_of_the_url(fetching: Gateway, origin: Origin) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            while True:
                for piece in origin.pieces:
                    await asyncio.sleep(origin.pause)
                    writer.write(piece)
                    await writer.drain()
                if not origin.endless:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if origin.reset:
                writer.transport.abort()
            writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await holds(fetching, Case(origin.name, of_url(f"http://127.0.0.1:{port}/"), origin.code))
    finally:
        server.close()
