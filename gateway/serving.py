"""Runs the application under uvicorn, tells a person how its start goes, and leaves cleanly."""

import asyncio
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from rich.console import Console

from engine_config import hub, report
from engine_config.choice import Choice
from engine_config.profile import EngineProfile
from gateway.access.lifecycle import Lifecycle, Phase
from gateway.access.running import RunningRequests
from gateway.api.examples import PICTURE
from gateway.api.protocol import bounded
from gateway.app import create_app, create_metrics_app
from gateway.engine.interface import Engine
from gateway.engine.supervisor import Report, Supervisor
from gateway.engine.vllm_engine import VLLMEngine
from gateway.errors import ShuttingDown
from gateway.images.loader import PictureLoader
from gateway.settings import Settings
from gateway.telemetry import logs

OWN_FILES = 512  # descriptors for the engine, fetched images, logs, and connections that are being refused
IDLE = 10.0  # seconds without a request after which freed memory goes back to the system
TRIMS = 3  # times: what had been cancelled may end later than the last request
TO_TELL = 2.0  # seconds for those that are ended to be told
TICK = 5.0  # seconds between two lines about a start that goes on, where there is no terminal
ACCEPTS = 32  # connections that are accepted in one round of the event loop

log = structlog.get_logger()


def run(settings: Settings, choice: Choice) -> None:
    """Serve until told to end. Exits with 0 then, and with 1 where the engine could not be kept running."""
    logs.configure(settings.log_format, settings.log_level)
    _keep_freed_memory()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    settings = _with_descriptors(settings, console)
    profile = choice.profile
    console.print(f"[bold]{profile.name}[/bold]: {profile.summary} Chosen because {choice.reason}.")
    if choice.plan is not None:
        console.print(report.line(choice.plan))
    if fetched := _download(profile):
        console.print(fetched)
    try:
        failed = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_serve(settings, profile, console))
    except SystemExit:  # uvicorn's, where it cannot listen; it has said why
        failed = True
    sys.stderr.flush()
    sys.stdout.flush()
    # A start that was under way may still hold a thread inside vLLM; nothing of ours is left to wait for.
    os._exit(1 if failed else 0)


def _with_descriptors(settings: Settings, console: Console) -> Settings:
    """Raise the limit on open files to what the settings need, or lower `max_connections` and say so."""
    needed = settings.max_connections + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return settings
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed >= needed:
        return settings
    possible = max(1, allowed - OWN_FILES)
    console.print(
        f"This process may open {allowed} files (ulimit -n), too few for GATEWAY_MAX_CONNECTIONS="
        f"{settings.max_connections}: it takes {possible} connections. `ulimit -n {needed}` allows all."
    )
    return settings.model_copy(update={"max_connections": possible})


async def _trim_when_idle(running: RunningRequests, loader: PictureLoader) -> None:
    """Give memory back to the system once nothing has run for a while. malloc_trim(3)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    idle_since, left = asyncio.get_running_loop().time(), 0
    while trim is not None:
        await asyncio.sleep(1)
        now = asyncio.get_running_loop().time()
        if running:
            idle_since, left = now, TRIMS
        elif left and now - idle_since > IDLE:
            idle_since, left = now, left - 1
            loader.rest()
            gc.collect()
            await asyncio.to_thread(trim, 0)


def _keep_freed_memory() -> None:
    """Have glibc use freed memory again, where it would give it back and ask for it with every picture.

    Each new page costs a fault, and a picture of 4 MB passes through thousands of them. All threads share
    one arena: malloc_trim leaves up to 64 MB in each other one. mallopt(3).
    """
    trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 2**25)  # bytes, the most that it takes
        mallopt(arena_max, 1)
        mallopt(trim_threshold, 2**28)
        mallopt(top_pad, 2**24)


class Server(uvicorn.Server):
    """uvicorn, with an end in steps; it does not re-raise the signal after it (uvicorn does)."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._lifecycle: Lifecycle = app.state.lifecycle
        self._running: RunningRequests = app.state.running
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, ACCEPTS times on each socket.

        uvloop accepts one connection per listener and round. Under load a round takes a tenth of a second,
        and a new connection would wait for seconds behind hundreds that came before it.
        """
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for listening in [found for server in self.servers for found in server.sockets]:
            for _ in range(ACCEPTS - 1):
                again = socket.fromfd(listening.fileno(), listening.family, listening.type)
                self.servers.append(
                    await loop.create_server(self._protocol, sock=again, backlog=self.config.backlog)
                )

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends at once."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, close, and end what still runs after its time. The port answers until all is told."""
        self._lifecycle.phase = Phase.DRAINING
        await self._until(self._settings.drain_delay)
        self._lifecycle.phase = Phase.CLOSING
        await self._until(self._settings.shutdown_timeout, lambda: not self._running)
        self._running.end_all(ShuttingDown("the gateway is shutting down"))
        await self._until(TO_TELL, lambda: not self.server_state.tasks)
        await super().shutdown(sockets)

    async def _until(self, seconds: float, condition: Callable[[], bool] = lambda: False) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline and not condition() and not self.force_exit:  # noqa: ASYNC110  # uvicorn has flags
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


async def _serve(settings: Settings, profile: EngineProfile, console: Console) -> bool:
    failures: list[BaseException] = []

    def make_engine(report: Report) -> Engine:
        return VLLMEngine(profile, settings.max_images, report)

    def on_failure(reason: BaseException) -> None:
        failures.append(reason)
        log.error("engine_failed", reason=f"{type(reason).__name__}: {reason}")
        server.should_exit = True

    app = create_app(settings, profile, make_engine, on_failure)
    server = Server(_uvicorn_config(app, settings), app, settings)
    watching = asyncio.create_task(_watch(app.state.supervisor, settings, profile, console))
    beside = asyncio.create_task(_serve_metrics(app, settings))
    trimming = asyncio.create_task(_trim_when_idle(app.state.running, app.state.loader))
    await server.serve()
    beside.cancel()
    trimming.cancel()
    if server.force_exit:
        # uvicorn then skips the application's own end, and the engine's processes would outlive us.
        await app.state.supervisor.shutdown()
    watching.cancel()
    return bool(failures) or not server.started


def _uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="none",
        http=bounded(settings),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn believes any of loopback; GATEWAY_TRUSTED_PROXIES says whom we do
        # Longer than the proxies in front keep a connection, or they would send into one that is closing.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,  # After our own end nothing runs but what cannot be told of it.
    )


async def _serve_metrics(app: FastAPI, settings: Settings) -> None:
    """Answer `/metrics` on the port of its own, if it has one."""
    if settings.metrics_port is None:
        return
    config = uvicorn.Config(
        create_metrics_app(app.state.metrics),
        host=settings.host,
        port=settings.metrics_port,
        loop="none",
        http=bounded(settings),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    await uvicorn.Server(config)._serve()  # noqa: SLF001  # `serve` would take the signals, which are the other's


async def _watch(
    supervisor: Supervisor, settings: Settings, profile: EngineProfile, console: Console
) -> None:
    """Show the stages of the start, and at its end how to ask something."""
    if console.is_terminal:
        with console.status("") as line:
            while not supervisor.ready:
                line.update(f"{supervisor.stage} … {supervisor.elapsed:.0f} s")
                await asyncio.sleep(0.2)
    else:
        while not supervisor.ready:
            console.print(f"{supervisor.stage} … {supervisor.elapsed:.0f} s")
            await _ready_within(supervisor, TICK)
    address = f"http://{settings.host}:{settings.port}/v1"
    console.print(f"[bold green]ready[/bold green] after {supervisor.elapsed:.0f} s at {address}; try:\n")
    console.print(_example(address, profile.served_name), markup=False)


async def _ready_within(supervisor: Supervisor, seconds: float) -> None:
    for _ in range(int(seconds / 0.1)):
        if supervisor.ready:
            return
        await asyncio.sleep(0.1)


def _download(profile: EngineProfile) -> str | None:
    """Say what the start will fetch and how large it is, if anything."""
    if profile.is_local or hub.find(profile.model, profile.revision) is not None:
        return None
    return (
        f"The weights of {profile.model} are not on this machine: {profile.download_gb:g} GB will now be "
        "fetched from the Hugging Face hub. (Ctrl-C stops it, and the next start continues; `--profile demo` "
        "needs no download.)"
    )


def _example(address: str, model: str) -> str:
    return (
        f"curl {address}/chat/completions -H 'content-type: application/json' -d '"
        f'{{"model": "{model}", "messages": [{{"role": "user", "content": [\n'
        f'  {{"type": "image_url", "image_url": {{"url": "data:image/png;base64,{PICTURE}"}}}},\n'
        f'  {{"type": "text", "text": "What is in the image?"}}]}}]}}\''
        "\n"
    )
