"""A frontend's server in a process of its own, with a recording proxy between it and the gateway."""

import asyncio
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.frontends.recording import Exchange, Recorder
from tests.servers import free_port

READY_WITHIN = 240.0  # seconds


@dataclass(frozen=True)
class Frontend:
    """A frontend that runs: its address, and what it sends to the gateway."""

    url: str
    recorder: Recorder

    @property
    def chats(self) -> list[Exchange]:
        """What was asked for a person; frontends ask for their own tasks without a stream."""
        return [one for one in self.recorder.exchanges if one.request.get("stream")]


@asynccontextmanager
async def serving(
    command: list[str], recorder: Recorder, folder: Path, path: str = "/", **environment: str
) -> AsyncIterator[Frontend]:
    """Run `command` in `folder` from when `path` answers on; what it says is in server.log.

    `{port}` in the command and the environment is the port to listen on. Nothing is fetched from the hub.
    """
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HF_HUB_OFFLINE": "1",
        **{name: value.replace("{port}", port) for name, value in environment.items()},
    }
    command = [argument.replace("{port}", port) for argument in command]
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
            command, stdout=file, stderr=file, cwd=folder, env=environment
        )
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not await asyncio.to_thread(_answers, url + path):
                assert process.poll() is None, log.read_text()[-2000:]
                await asyncio.sleep(0.3)
        yield Frontend(url, recorder)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
