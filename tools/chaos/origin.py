"""Servers of images that misbehave: drip, reset, hang, promise more than they send."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 100000\r\n\r\n\x89PNG\r\n\x1a\n"
KINDS = ("drip", "reset", "hang", "short")


@asynccontextmanager
async def bad_origin() -> AsyncIterator[str]:
    """Yield the address of a server that misbehaves as the request's path says, one of KINDS."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        kind = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().strip("/")
        if kind == "hang":
            await reader.read()
        writer.write(HEAD)
        while kind == "drip":
            writer.write(b"\0")
            await writer.drain()
            await asyncio.sleep(0.2)
        if kind == "reset":
            await writer.drain()
            linger = struct.pack("ii", 1, 0)  # closing resets: socket(7)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
