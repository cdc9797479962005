"""HTTP/1.1 on one connection: uvicorn's httptools protocol, with limits that uvicorn does not have.

The bytes and lines of a head, the time that it may take, the requests that wait for their turn, and the
number of connections are limited; `Upgrade` is ignored (RFC 9110, 7.8), body and all.
Written against uvicorn 0.54.
"""

import asyncio
from typing import Any

import httptools

from gateway.api.connections import OpenConnections
from gateway.api.pipelining import PipelinedResponses
from gateway.errors import BadHTTP, GatewayError, HeadersTooLarge, HeaderTimeout, Overloaded
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

# Each piece of a body costs the event loop a microsecond or two, and a read can hold 40,000 of one byte.
HEADER_LINES = 100  # in one request
MANY_PIECES = 4096  # of a body, from which on their average size counts
PIECE_BYTES = 32  # that they then must have on average
MOST_AHEAD = 64  # requests of one connection that wait for the answers to those before them
FRAMING = (b"content-length", b"transfer-encoding", b"connection")


class Protocol(PipelinedResponses):
    """What arrives on one connection, among those that `bounded` gives the class."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._bounds = self._all.settings
        self._pending = 0  # bytes since the parser last had something whole
        self._in_head = True
        self._head_bytes = 0  # of the target and the header lines so far
        self._ahead_bytes = 0  # of the heads of requests that wait for their turn
        self._pieces = 0  # of the body so far
        self._body_bytes = 0
        self._refusal: GatewayError | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._silent = False  # the parser is given a head of ours
        self._admitted = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._admitted = self._all.opened(self)
        self._all.idles(self)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.closed(self)
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._wrong is not None:
            return
        if self._in_head and not self._pending:
            # Some clients send a line break after a body (RFC 9112, 2.2).
            data = data.lstrip(b"\r\n")
            if not data:
                return
        if self._in_head or not self.cycle.response_complete:
            # The rest of a body whose request has its answer may come as long as idle connections are kept.
            self._unset_keepalive_if_required()
        if self._in_head and self._head_timer is None and not self._answer_is_due:
            self._await_head()
        self._pending += len(data)
        try:
            self._feed(memoryview(data))
        except httptools.HttpParserError:
            self.refuse(self._refusal or BadHTTP("the request is not valid HTTP/1.1"))
            return
        if self._pending > self._bounds.header_max_bytes:
            self.refuse(self._too_large())

    def on_message_begin(self) -> None:
        if not self._silent:
            self._in_head, self._head_bytes = True, 0
            self._pieces = self._body_bytes = 0
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._silent:
            self._count_head(len(url))
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._silent:
            return
        self._count_head(len(name) + len(value))
        super().on_header(name, value)
        if len(self.headers) > HEADER_LINES:
            self._raise(HeadersTooLarge(f"the request has more than {HEADER_LINES} header lines"))

    def on_headers_complete(self) -> None:
        if self._silent:
            return
        self._pending, self._in_head = 0, False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._unset_keepalive_if_required()
        self._all.works(self)
        try:
            path = httptools.parse_url(self.url).path or b""
        except httptools.HttpParserError:
            self._raise(BadHTTP("the request's target is not a valid URL"))
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):  # RFC 9112, 3.2
            self._raise(BadHTTP(f"the request must have one Host header; got {hosts}"))
        if not self._admitted and not path.startswith(b"/health"):
            self._raise(Overloaded("too many connections are open", retry_after=5))
        self._count_ahead()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > MANY_PIECES and self._body_bytes < PIECE_BYTES * self._pieces:
            self._raise(
                BadHTTP(
                    f"the body has more than {MANY_PIECES} chunks of less than {PIECE_BYTES} bytes on average"
                )
            )
        super().on_body(body)

    def on_message_complete(self) -> None:
        # An upgrade's body, which the parser has not looked at, is still to come.
        if self._silent or not self.parser.should_upgrade():
            self._pending, self._in_head = 0, True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._all.idles(self)
            if self._pending and self._in_head and self._head_timer is None:
                self._await_head()

    def send_400_response(self, msg: str) -> None:
        self.refuse(BadHTTP(msg))

    def _feed(self, data: memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._ignore_upgrade()
            else:
                return

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._bounds.header_timeout, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._pending:
            self.refuse(
                HeaderTimeout(f"the request's head did not arrive within {self._bounds.header_timeout:g} s")
            )
        else:
            self.transport.close()

    def _raise(self, refusal: GatewayError) -> None:
        """Stop the parser, which tells of an error of its own in the place of `refusal`."""
        self._refusal = refusal
        raise refusal

    def _count_head(self, size: int) -> None:
        """Count the bytes of a head that the parser has read, also of one that arrives whole."""
        self._head_bytes += size
        if self._head_bytes > self._bounds.header_max_bytes:
            self._raise(self._too_large())

    def _count_ahead(self) -> None:
        """Count what waits for its turn: reading stops for it, but not in the middle of what is read."""
        if not self._answer_is_due:
            self._ahead_bytes = 0
            return
        self._ahead_bytes += self._head_bytes
        if len(self.pipeline) >= MOST_AHEAD or self._ahead_bytes > self._bounds.header_max_bytes:
            self._raise(Overloaded("too many requests were sent before the first of them was answered"))

    def _too_large(self) -> GatewayError:
        return HeadersTooLarge(
            f"the request's head is larger than the limit of {self._bounds.header_max_bytes} bytes"
        )

    def _ignore_upgrade(self) -> None:
        """Go on as if no upgrade had been asked for: what comes next is the body that the head announces.

        The parser stops at an upgrade's head. A new parser is brought to the same state by a head that
        announces the same body.
        """
        framing = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in self.headers
            if name in FRAMING and b"pgrade" not in value.lower()
        )
        self.parser = httptools.HttpRequestParser(self)
        self._silent = True
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\nhost: -\r\n" + framing + b"\r\n")
        finally:
            self._silent = False


def bounded(settings: Settings, metrics: Metrics) -> type[Protocol]:
    """Return the protocol for one server, which counts its connections together."""
    return type("BoundedProtocol", (Protocol,), {"connections_open": OpenConnections(settings, metrics)})
