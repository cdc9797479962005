"""`python -m tests.scripted_server FILE`: the gateway with the scripted engine in a process of its own."""

import asyncio
import sys
from pathlib import Path

from gateway.engine.interface import Job
from gateway.serving import malloc
from gateway.telemetry import logs
from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway


class _Nowhere(list[Job]):
    def append(self, _: Job) -> None:
        """Keep nothing: a job holds its images."""


class Forgetful(ScriptedEngine):
    """A scripted engine that keeps no job it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = _Nowhere()


async def main() -> None:
    """Write the address into FILE once it is served, until standard input ends."""
    logs.configure("json", "warning")
    malloc.keep_freed()
    malloc.IDLE = 1.0
    async with scripted_gateway(Forgetful(), fetch_allow=("127.0.0.1/32",)) as gateway:
        assert gateway.app is not None
        state = gateway.app.state
        trimming = asyncio.create_task(malloc.trim_when_idle(state.running, state.loader))
        await asyncio.to_thread(Path(sys.argv[1]).write_text, gateway.url)
        await asyncio.to_thread(sys.stdin.read)
        trimming.cancel()


if __name__ == "__main__":
    asyncio.run(main())
