"""HTTP/1.1 on one connection: uvicorn's httptools protocol, with limits that uvicorn does not have.

The bytes and lines of a head, the time that it may take, and the number of connections are limited; a client
that closes its sending half still gets its answer; `Upgrade` is ignored (RFC 9110, 7.8), body and all.
Written against uvicorn 0.54.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.api.errors import error_body
from gateway.errors import (
    BadHTTP,
    GatewayError,
    HeadersTooLarge,
    HeaderTimeout,
    Overloaded,
    Unavailable,
)
from gateway.settings import Settings
from gateway.telemetry.sampling import Sampler

PROBE_EVERY = 0.25  # seconds between two probes of a client that has closed its sending half
# Each piece of a body costs the event loop a microsecond or two, and a read can hold 40,000 of one byte.
MANY_PIECES = 4096  # of a body, from which on their average size counts
PIECE_BYTES = 32  # that they then must have on average
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = structlog.get_logger()


class Connections:
    """All connections of one server: who may have another, and which may be closed for it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._by_address: Counter[str] = Counter()
        self._idle: OrderedDict[Protocol, None] = OrderedDict()  # the longest idle first
        self.sampler = Sampler()

    def opened(self, connection: "Protocol", address: str) -> bool:
        """Count `connection`, closing the longest idle one where there are too many.

        Return whether it may send more than health checks.
        """
        self._by_address[address] += 1
        if 0 < self.settings.max_connections_per_address < self._by_address[address]:
            return self._close_idle(lambda other: other.address == address and other is not connection)
        if self._by_address.total() > self.settings.max_connections:
            return self._close_idle(lambda other: other is not connection)
        return True

    def closed(self, connection: "Protocol", address: str) -> None:
        self._idle.pop(connection, None)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def idles(self, connection: "Protocol") -> None:
        self._idle[connection] = None

    def works(self, connection: "Protocol") -> None:
        self._idle.pop(connection, None)

    def _close_idle(self, fits: Callable[["Protocol"], bool]) -> bool:
        for other in self._idle:
            if fits(other):
                del self._idle[other]
                other.transport.close()
                return True
        return False


class Protocol(HttpToolsProtocol):
    """One connection, among those that `bounded` gives the class."""

    connections_open: Connections

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._all = self.connections_open
        self._bounds = self._all.settings
        self._pending = 0  # bytes since the parser last had something whole
        self._in_head = True
        self._head_bytes = 0  # of the target and the header lines so far
        self._pieces = 0  # of the body so far
        self._body_bytes = 0
        self._refusal: GatewayError | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._silent = False  # the parser is given a head of ours
        self._admitted = True
        self.address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._admitted = self._all.opened(self, self.address)
        self._all.idles(self)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.closed(self, self.address)
        for timer in (self._head_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._in_head and self._head_timer is None:
            self._await_head()
        self._pending += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or BadHTTP("the request is not valid HTTP/1.1"))
            return
        if self._pending > self._bounds.header_max_bytes:
            self._refuse(self._too_large())

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads what it returns
        """Keep the connection where an answer is due: the client may only have closed its sending half."""
        due = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if due:
            self.cycle.keep_alive = False
            self._probe()
        return due

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
        if len(self.headers) > self._bounds.header_max_lines:
            self._refusal = HeadersTooLarge(
                f"the request has more than {self._bounds.header_max_lines} header lines"
            )
            raise self._refusal

    def on_headers_complete(self) -> None:
        if self._silent:
            return
        self._pending, self._in_head = 0, False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._all.works(self)
        try:
            path = httptools.parse_url(self.url).path or b""
        except httptools.HttpParserError:
            self._refusal = BadHTTP("the request's target is not a valid URL")
            raise self._refusal from None
        if not self._admitted and not path.startswith(b"/health"):
            self._refusal = Overloaded("too many connections are open", retry_after=5)
            raise self._refusal
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > MANY_PIECES and self._body_bytes < PIECE_BYTES * self._pieces:
            self._refusal = BadHTTP(
                f"the body has more than {MANY_PIECES} chunks of less than {PIECE_BYTES} bytes on average"
            )
            raise self._refusal
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

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadHTTP(msg))

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._bounds.header_timeout, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._pending:
            self._refuse(
                HeaderTimeout(f"the request's head did not arrive within {self._bounds.header_timeout:g} s")
            )
        else:
            self.transport.close()

    def _count_head(self, size: int) -> None:
        """Count the bytes of a head that the parser has read, also of one that arrives whole."""
        self._head_bytes += size
        if self._head_bytes > self._bounds.header_max_bytes:
            self._refusal = self._too_large()
            raise self._refusal

    def _too_large(self) -> GatewayError:
        return HeadersTooLarge(
            f"the request's head is larger than the limit of {self._bounds.header_max_bytes} bytes"
        )

    def _refuse(self, error: GatewayError) -> None:
        """Answer with `error` and close. Where another answer is under way or due, only close."""
        if self.transport.is_closing():
            return
        left_out = self._all.sampler.admit(error.code or "")
        if left_out is not None:
            log.warning("connection_refused", reason=error.code, left_out=left_out)
        if self._may_answer():
            body = error_body(error)
            retry = b"retry-after: %d\r\n" % error.retry_after if isinstance(error, Unavailable) else b""
            self.transport.write(
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n%b"
                % (STATUS_LINE[error.status], len(body), retry, body)
            )
        self.transport.close()

    def _may_answer(self) -> bool:
        """Say whether an error may be written now; it then takes the place of the application's answer."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        if not cycle.more_body or cycle.response_started or self.pipeline:
            return False
        # The body is broken, and nobody has answered yet.
        cycle.disconnected = True
        cycle.message_event.set()
        return True

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Go on as if no upgrade had been asked for: `rest` is what follows the head.

        The parser stops at an upgrade's head. A new parser is brought to the same state by a head that
        announces the same body.
        """
        framing = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in self.headers
            if name in (b"content-length", b"transfer-encoding", b"connection") and b"pgrade" not in value
        )
        self.parser = httptools.HttpRequestParser(self)
        self._silent = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\nhost: -\r\n" + framing + b"\r\n")
        self._silent = False
        if rest:
            self.data_received(rest)

    def _probe(self) -> None:
        """Send what any client skips (RFC 9110, 15.2): one that has gone altogether resets the connection."""
        cycle = self.cycle
        if self.transport.is_closing() or cycle.response_started or cycle.scope["http_version"] != "1.1":
            return
        self.transport.write(CONTINUE)
        self._probe_timer = self.loop.call_later(PROBE_EVERY, self._probe)


def bounded(settings: Settings) -> type[Protocol]:
    """Return the protocol for one server, which counts its connections together."""
    return type("BoundedProtocol", (Protocol,), {"connections_open": Connections(settings)})
