"""HTTP/1.1 as cheap as it gets in Python, so that the client measures the server and not itself."""

import asyncio
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import httptools


@dataclass(slots=True)
class Exchange:
    """One answer as it came: the pieces of its body, each with the time of its arrival (s, monotonic)."""

    sent: float
    ended: float = 0.0
    status: int = 0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)


class Connection(asyncio.Protocol):
    """One connection, one request at a time. The methods named `on_` are the parser's."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._exchange = Exchange(0.0)
        self._done: asyncio.Future[Exchange] | None = None
        self._now = 0.0

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, exchange: Exchange | None = None) -> Exchange:
        """Send `request` and return the whole answer. Raises ConnectionError if it breaks off.

        What has arrived is in `exchange`, if the caller gives one, at any time.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the server has closed the connection")
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._exchange = exchange or Exchange(0.0)
        self._exchange.sent = perf_counter()
        self._transport.write(request)
        return await self._done

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        self._now = perf_counter()
        if self._parser is not None:
            self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection in an answer"))

    def on_body(self, body: bytes) -> None:
        self._exchange.pieces.append((self._now, body))

    def on_message_complete(self) -> None:
        assert self._parser is not None
        assert self._done is not None
        self._exchange.ended = self._now
        self._exchange.status = self._parser.get_status_code()
        if not self._done.done():
            self._done.set_result(self._exchange)


class Pool:
    """Connections to a port of this machine, kept open and used again, the last used first."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []
        self._all: list[Connection] = []

    async def ask(self, request: bytes, exchange: Exchange | None = None) -> Exchange:
        """Send `request` on a connection that is free, or on a new one. Close it if cancelled."""
        connection = await self._take()
        try:
            exchange = await connection.ask(request, exchange)
        except asyncio.CancelledError:
            connection.close()
            raise
        self._idle.append(connection)
        return exchange

    def close(self) -> None:
        """Close all connections; a server aborts what it was still answering."""
        for connection in self._all:
            connection.close()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, "127.0.0.1", self._port
        )
        self._all.append(connection)
        return connection
