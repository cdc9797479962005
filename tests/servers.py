"""The gateway in a process, or on a real port in this one, for the time of a test."""

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from engine_config.profile import load as load_profile
from gateway.app import create_app
from gateway.engine.interface import Engine
from gateway.engine.supervisor import Report, Supervisor
from gateway.serving.server import Server, configuration
from gateway.settings import Settings
from tests.scripted_engine import ScriptedEngine
from tests.watching import Watch

READY_WITHIN = 240.0  # seconds; the engine takes 35 to 60 on two idle cores
# Seconds for what happens at once: a busy machine may take some, and what does not happen takes longer.
PROMPTLY = 10.0


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs: its address, and its process where it has one of its own."""

    url: str
    pid: int = 0
    log: Path | None = None
    supervisor: Supervisor | None = None
    server: Server | None = None
    app: FastAPI | None = None

    @property
    def api(self) -> str:
        return f"{self.url}/v1"


@asynccontextmanager
async def scripted_gateway(engine: ScriptedEngine, **settings: Any) -> AsyncIterator[Gateway]:
    """Run the whole application on a port of its own, with `engine` behind it, from when that is ready on."""
    failures: list[BaseException] = []
    engine.started.set()
    engine.failed = False  # a module that pytest-xdist splits gives its engine to two gateways
    async with supervised_gateway(lambda _: engine, failures.append, **settings) as gateway:
        assert gateway.supervisor is not None
        supervisor = gateway.supervisor
        await until(lambda: supervisor.ready)
        yield gateway
    assert failures == []


@asynccontextmanager
async def supervised_gateway(
    make: Callable[[Report], Engine], on_failure: Callable[[BaseException], None], **settings: Any
) -> AsyncIterator[Gateway]:
    """Run the whole application, from when it listens on: on a port of its own unless `settings` name one."""
    state = TemporaryDirectory(prefix="gateway-state-")
    # Checked as `Settings(…)` is, but without a look at the environment, which takes 20 ms.
    chosen = Settings.model_validate({"shutdown_timeout": 1, "state_dir": state.name, **settings})
    app = create_app(chosen, load_profile("demo"), make, on_failure)
    config = configuration(Watch(app), chosen, settings.get("port", 0), app.state.metrics)
    server = _Server(config, app, chosen)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Gateway(f"http://127.0.0.1:{port}", supervisor=app.state.supervisor, server=server, app=app)
    finally:
        server.should_exit = True
        await serving
        state.cleanup()


class _Server(Server):
    """The gateway's server, but signals stay with the tests, and it looks more often whether it shall end."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110  # uvicorn has flags
            await asyncio.sleep(0.01)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return as soon as `condition` holds. Raises TimeoutError if it does not within `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for knows no event
            await asyncio.sleep(0.01)


@contextmanager
def served_gateway(
    folder: Path, *arguments: str, ready_within: float = READY_WITHIN, **settings: str
) -> Iterator[Gateway]:
    """Run `llava-gateway serve` in a process, on the real engine; when the block ends, expect exit code 0."""
    with _served(*start(folder, *arguments, **settings), ready_within) as running:
        yield running


@contextmanager
def served_scripted(folder: Path, *, files: int, **settings: str) -> Iterator[Gateway]:
    """Run `llava-gateway serve` in a process that may open `files` files, with the scripted engine in it."""
    limited = (
        "sh",
        "-c",
        f'ulimit -n {files}; exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "tests.serve_scripted",
    )
    with _served(*_start(limited, folder, (), settings | {"profile": "demo"}), 30) as running:
        yield running


@contextmanager
def _served(gateway: Gateway, process: subprocess.Popen[bytes], ready_within: float) -> Iterator[Gateway]:
    try:
        wait_until_ready(gateway, process, ready_within)
        yield gateway
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0, _end_of_log(gateway)


def start(folder: Path, *arguments: str, **settings: str) -> tuple[Gateway, subprocess.Popen[bytes]]:
    """Start `llava-gateway serve`, its log in `folder`; whoever asks for it ends it."""
    return _start((sys.executable, "-m", "gateway"), folder, arguments, settings)


def _start(
    program: Sequence[str], folder: Path, arguments: Sequence[str], settings: dict[str, str]
) -> tuple[Gateway, subprocess.Popen[bytes]]:
    port = free_port()
    log = folder / "gateway.log"
    command = [*program, "serve", "--port", str(port), *arguments]
    settings = {"state_dir": str(folder / "state"), **settings}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=_environment(settings))
    return Gateway(f"http://127.0.0.1:{port}", process.pid, log), process


def wait_until_ready(
    gateway: Gateway, process: subprocess.Popen[bytes] | None = None, within: float = READY_WITHIN
) -> None:
    """Return once the gateway is ready; fail when `process` ends before, or after `within` seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            with urllib.request.urlopen(f"{gateway.url}/health/ready", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"the gateway did not become ready\n{_end_of_log(gateway)}")


def core(gateway: Gateway) -> psutil.Process:
    """Return the process of the engine's core."""
    family = psutil.Process(gateway.pid).children(recursive=True)
    (found,) = [child for child in family if "EngineCore" in child.name()]
    return found


def _end_of_log(gateway: Gateway) -> str:
    return gateway.log.read_text()[-3000:] if gateway.log else ""


def free_port() -> int:
    """Return a port that nothing listens on.

    It is outside the range that systems take connections' own ports from, so it stays free for a while.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def _environment(settings: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")} | {
        f"GATEWAY_{name.upper()}": value for name, value in settings.items()
    }


async def metric(gateway: Gateway, name: str, **labels: str) -> float:
    """Return the value of the metric `name`, summed over the series that have `labels`."""
    found = [
        sample.value for sample in await samples(gateway, name) if labels.items() <= sample.labels.items()
    ]
    assert found, f"there is no metric {name} with {labels}"
    return sum(found)


async def samples(gateway: Gateway, name: str) -> list[Sample]:
    """Return every series of the metric `name`, with its labels."""
    page = await asyncio.to_thread(_page, f"{gateway.url}/metrics")
    families = text_string_to_metric_families(page)
    return [sample for family in families for sample in family.samples if sample.name == name]


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        page: bytes = answer.read()
    return page.decode()


async def idle_engine(engine: ScriptedEngine) -> None:
    """Return as soon as no job runs on `engine`. Raises TimeoutError if one still does after seconds."""
    await until(lambda: engine.running == 0, PROMPTLY)
