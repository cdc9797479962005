"""Many connections at once are accepted at once: nobody waits behind them."""

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import uvicorn
import uvloop

from engine_config.profile import load
from gateway.api.protocol import bounded
from gateway.app import create_app
from gateway.serving.server import Server
from gateway.settings import Settings
from tests.scripted_engine import ScriptedEngine

CONNECTIONS = 300


def test_three_hundred_connections_are_accepted_in_a_few_rounds_of_the_loop(tmp_path: Path) -> None:
    """uvloop alone needs a round for each, and under load a round takes a tenth of a second."""
    assert asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_rounds(tmp_path)) < CONNECTIONS / 10


async def _rounds(folder: Path) -> int:
    settings = Settings(state_dir=folder)
    app = create_app(settings, load("demo"), lambda _: ScriptedEngine(), lambda _: None)
    config = uvicorn.Config(app, port=0, http=bounded(settings), ws="none", log_config=None, lifespan="off")
    server = Server(config, app, settings)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    address = server.servers[0].sockets[0].getsockname()
    rounds = 0
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(socket.create_connection(address))
        while len(server.server_state.connections) < CONNECTIONS:
            rounds += 1
            await asyncio.sleep(0)
    for listener in server.servers:
        listener.close()
    return rounds
