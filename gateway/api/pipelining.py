"""The answers of one connection, each in its turn (RFC 9112, 9.3.2), and the error that may be the last.

uvicorn knows the newest request of a connection alone; here the one that is being answered is known too, so
that a client's leaving ends it, and what is wrong with a later request does not.
"""

import asyncio
from typing import Any

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.api.connections import OpenConnections, Unsent
from gateway.api.errors import error_body
from gateway.api.unchunked import unchunked
from gateway.errors import GatewayError, Unavailable

PROBE_EVERY = 0.25  # seconds between two probes of a client that has closed its sending half
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class PipelinedResponses(HttpToolsProtocol):
    """One connection's answers, among those of all connections that a class below has."""

    connections_open: OpenConnections

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.address = ""
        self.unsent = Unsent()
        self._all = self.connections_open
        self._current: RequestResponseCycle | None = None  # the request that is answered, or was last
        self._wrong: GatewayError | None = None  # sent after all answers before it; nothing more is read
        self._half_closed = False
        self._probe_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        self.pipeline.clear()
        if self._current is not None and not self._current.response_complete:
            self._give_up(self._current)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads what it returns
        """Keep the connection where an answer is due: the client may only have closed its sending half."""
        self._drop_unfinished()
        if not self._answer_is_due:
            return False
        assert self._current is not None
        last = self.pipeline[0][0] if self.pipeline else self._current
        last.keep_alive = False
        self._half_closed = True
        self._probe()
        return True

    def resume_writing(self) -> None:
        self.unsent.resumed += 1
        super().resume_writing()

    def on_response_complete(self) -> None:
        last = not self.pipeline
        super().on_response_complete()
        if last and self._wrong is not None:
            self._tell(self._wrong)

    def refuse(self, error: GatewayError) -> None:
        """Answer with `error` and close, as soon as all whole requests before it have their answers."""
        if self.transport.is_closing() or self._wrong is not None:
            return
        self._all.ended(error.code or "")
        if self._answer_is_due:
            self._drop_unfinished()
            self._wrong = error
            return
        current = self._current
        if current is not None and not current.response_complete:
            # Its body is broken; if it has no answer yet, this is its answer.
            if current.response_started:
                self.transport.close()
                return
            self._give_up(current)
        self._tell(error)

    @property
    def _answer_is_due(self) -> bool:
        """Whether a request that came whole has no answer yet."""
        current = self._current
        if current is None or current.response_complete:
            return False
        return current is not self.cycle or not current.more_body

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._current = cycle
        answer: ASGIApp = app if cycle.scope["http_version"] == "1.1" else unchunked(app, cycle)
        super()._start_asgi_task(cycle, answer)  # type: ignore[arg-type]  # the same, by other names
        if self._half_closed:
            self._probe()

    def _drop_unfinished(self) -> None:
        """Forget the last request where its body will never be whole."""
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        cycle.message_event.set()

    def _tell(self, error: GatewayError) -> None:
        if self.transport.is_closing():
            return
        body = error_body(error)
        retry = b"retry-after: %d\r\n" % error.retry_after if isinstance(error, Unavailable) else b""
        self.transport.write(
            b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n%b"
            % (STATUS_LINE[error.status], len(body), retry, body)
        )
        self.transport.close()

    def _probe(self) -> None:
        """Send what any client skips (RFC 9110, 15.2): one that has gone altogether resets the connection."""
        current = self._current
        assert current is not None
        if self.transport.is_closing() or current.response_started or current.scope["http_version"] != "1.1":
            return
        self.transport.write(CONTINUE)
        self._probe_timer = self.loop.call_later(PROBE_EVERY, self._probe)
