"""A frontend's server in a process of its own."""

import asyncio
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

READY_WITHIN = 240.0  # seconds


@asynccontextmanager
async def serving(command: list[str], url: str, folder: Path, **environment: str) -> AsyncIterator[None]:
    """Run `command` in `folder` from when `url` answers on; what it says is in server.log."""
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
            command, stdout=file, stderr=file, cwd=folder, env={"PATH": os.environ["PATH"], **environment}
        )
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not await asyncio.to_thread(_answers, url):
                assert process.poll() is None, log.read_text()[-2000:]
                await asyncio.sleep(0.3)
        yield
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
