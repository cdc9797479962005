"""Many connections at once are accepted at once: nobody waits behind them, and each sends without delay."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from engine_config.profile import load
from gateway.app import create_app
from gateway.serving.server import Server, configuration
from gateway.settings import Settings
from tests.scripted_engine import ScriptedEngine

CONNECTIONS = 300


def test_three_hundred_connections_are_accepted_in_a_few_rounds_of_the_loop(tmp_path: Path) -> None:
    """uvloop alone needs a round for each, and under load a round takes a tenth of a second."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_rounds(tmp_path)) < CONNECTIONS / 10


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_no_connection_holds_back_what_is_written(tmp_path: Path, loop: Callable[[], Any]) -> None:
    """With Nagle's algorithm, a stream's next token would wait up to 40 ms for the client to acknowledge."""
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(_without_delay(tmp_path)) == [True] * CONNECTIONS


async def _rounds(folder: Path) -> int:
    rounds = 0
    async with _listening(folder) as server:
        with _connected(server):
            while len(server.server_state.connections) < CONNECTIONS:
                rounds += 1
                await asyncio.sleep(0)
    return rounds


async def _without_delay(folder: Path) -> list[bool]:
    async with _listening(folder) as server:
        with _connected(server):
            while len(server.server_state.connections) < CONNECTIONS:  # noqa: ASYNC110  # known by no event
                await asyncio.sleep(0.01)
            transports = [connection.transport for connection in server.server_state.connections]
            accepted = [transport.get_extra_info("socket") for transport in transports]
            return [bool(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) for one in accepted]


@asynccontextmanager
async def _listening(folder: Path) -> AsyncIterator[Server]:
    settings = Settings(state_dir=folder)
    app = create_app(settings, load("demo"), lambda _: ScriptedEngine(), lambda _: None)
    config = configuration(app, settings, 0, app.state.metrics, lifespan="off")
    server = Server(config, app, settings)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server
    for listener in server.servers:
        listener.close()
    for connection in list(server.server_state.connections):
        connection.transport.close()
    await asyncio.sleep(0)


@contextmanager
def _connected(server: Server) -> Iterator[None]:
    address = server.servers[0].sockets[0].getsockname()
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(socket.create_connection(address))
        yield
