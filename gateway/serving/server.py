"""uvicorn's server, with many connections accepted at once and a shutdown in steps."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from gateway.answering.deadlines import RunningRequests
from gateway.answering.lifecycle import Lifecycle, Phase
from gateway.api.protocol import bounded
from gateway.errors import ShuttingDown
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

FINISH = 2.0  # seconds for ended requests to send their error
LAST = 0.3  # seconds in which the newest connections still get an answer
ACCEPTS = 32  # connections accepted per iteration of the event loop


def configuration(
    app: ASGIApp, settings: Settings, port: int, metrics: Metrics, *, lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    """Return uvicorn's configuration to serve `app` on `port`, in production and in tests."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        loop="none",
        http=bounded(settings, metrics),
        ws="none",
        lifespan=lifespan,
        log_config=None,  # its warnings are logged like all others
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn trusts all of loopback; the gateway trusts GATEWAY_TRUSTED_PROXIES
        # Longer than proxies in front keep a connection, or they would send requests into a closing one.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,  # `Server.shutdown` has already waited for the requests
    )


class Server(uvicorn.Server):
    """uvicorn with a shutdown in steps. It does not re-raise the signal after shutdown; uvicorn does."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._lifecycle: Lifecycle = app.state.lifecycle
        self._running: RunningRequests = app.state.running
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with ACCEPTS listeners on each socket.

        uvloop accepts one connection per listener and iteration. Under load an iteration takes 0.1 s, and a
        new connection would wait for seconds behind hundreds of earlier ones.
        """
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for listening in [found for server in self.servers for found in server.sockets]:
            for _ in range(ACCEPTS - 1):
                # `fileno` alone makes Python look up the protocol. `dup()` has none, and then asyncio's loop
                # leaves Nagle's algorithm on: a stream's next token can be 40 ms late.
                again = socket.socket(fileno=os.dup(listening.fileno()))
                self.servers.append(
                    await loop.create_server(self._protocol, sock=again, backlog=self.config.backlog)
                )

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown; a second signal forces it."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, close, then end overdue requests. The port answers until every client has its answer."""
        self._lifecycle.phase = Phase.DRAINING
        await self._until(self._settings.drain_delay)
        self._lifecycle.phase = Phase.CLOSING
        await self._until(self._settings.shutdown_timeout, lambda: not self.server_state.tasks)
        self._running.end_all(ShuttingDown("the gateway is shutting down"))
        await self._until(FINISH, lambda: not self.server_state.tasks)
        for listener in self.servers:
            listener.close()
        # Clients that connected just before the listener closed get an error rather than a reset.
        await self._until(LAST, lambda: not self.server_state.connections)
        await super().shutdown(sockets)

    async def _until(self, seconds: float, condition: Callable[[], bool] = lambda: False) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline and not condition() and not self.force_exit:  # noqa: ASYNC110  # uvicorn uses flags, not events
            await asyncio.sleep(0.02)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
