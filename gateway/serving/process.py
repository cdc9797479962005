"""Serves the application in this process until it ends, and `/metrics` on a second port if one is set."""

import asyncio
import errno
import os
import resource
import socket
import sys

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from rich.console import Console

from engine_config.choice import Choice
from engine_config.profile import EngineProfile
from gateway.app import create_app, create_metrics_app, has_playground
from gateway.engine import fork_server
from gateway.engine.interface import Engine
from gateway.engine.supervisor import Report
from gateway.engine.vllm_engine import VLLMEngine
from gateway.serving import malloc, start
from gateway.serving.server import Server, configuration
from gateway.settings import Settings
from gateway.telemetry import logs

METRICS_CONNECTIONS = 64  # maximum on the metrics port
OWN_FILES = 512  # file descriptors besides connections: engine, fetched images, logs, metrics, refusals

log = structlog.get_logger()


def run(settings: Settings, choice: Choice) -> None:
    """Serve until a signal. Exits with status 0, or with 1 if the engine could not be kept running."""
    logs.configure(settings.log_format, settings.log_level)
    malloc.keep_freed()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    settings = _with_descriptors(settings, console)
    json = logs.is_json(settings.log_format)
    if json:
        # Only JSON is written; the supervisor logs the stages of the start.
        log.info("profile_chosen", profile=choice.profile.name, reason=choice.reason)
    else:
        start.announce(choice, console)
    try:
        failed = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(
            _serve(settings, choice.profile, None if json else console)
        )
    except SystemExit:  # uvicorn cannot listen, and has logged why
        failed = True
    fork_server.stop()
    sys.stderr.flush()
    sys.stdout.flush()
    # An unfinished start may have a thread inside vLLM that would keep the process alive.
    os._exit(1 if failed else 0)


def port_problem(settings: Settings) -> str | None:
    """Return why the gateway cannot listen on its ports, or None. Checked before a model is loaded."""
    ports = {"--port": settings.port, "GATEWAY_METRICS_PORT": settings.metrics_port}
    for name, port in ports.items():
        if port is None:
            continue
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            return f"port {port} of {settings.host} {why}; choose another with {name}"
    return None


def _with_descriptors(settings: Settings, console: Console) -> Settings:
    """Raise the limit on open files to what the settings need, or lower `max_connections` and print why."""
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
        f"The limit on open files, {allowed} (ulimit -n), is too low for GATEWAY_MAX_CONNECTIONS="
        f"{settings.max_connections}: using {possible} connections. `ulimit -n {needed}` allows all."
    )
    return settings.model_copy(update={"max_connections": possible})


async def _serve(settings: Settings, profile: EngineProfile, console: Console | None) -> bool:
    failures: list[BaseException] = []

    def make_engine(report: Report) -> Engine:
        return VLLMEngine(profile, settings.max_images, report)

    def on_failure(reason: BaseException) -> None:
        failures.append(reason)
        log.error("engine_failed", reason=f"{type(reason).__name__}: {reason}")
        server.should_exit = True

    app = create_app(settings, profile, make_engine, on_failure)
    server = Server(configuration(app, settings, settings.port, app.state.metrics), app, settings)
    watching = None
    if console is not None:
        hint = start.hint(settings, profile, page=has_playground(settings), keyed=app.state.callers.keyed)
        watching = asyncio.create_task(start.watch(app.state.supervisor, hint, console))
    beside = asyncio.create_task(_serve_metrics(app, settings))
    trimming = asyncio.create_task(malloc.trim_when_idle(app.state.running, app.state.loader))
    await server.serve()
    beside.cancel()
    trimming.cancel()
    if server.force_exit:
        # uvicorn then skips the lifespan's shutdown, and the engine's processes would outlive this one.
        await app.state.supervisor.shutdown(at_once=True)
    if watching is not None:
        watching.cancel()
    return bool(failures) or not server.started


async def _serve_metrics(app: FastAPI, settings: Settings) -> None:
    """Serve `/metrics` on `metrics_port`, if set."""
    if settings.metrics_port is None:
        return
    page = create_metrics_app(app.state.metrics, app.state.callers, settings)
    few = settings.model_copy(update={"max_connections": METRICS_CONNECTIONS})
    config = configuration(page, few, settings.metrics_port, app.state.metrics, lifespan="off")
    await uvicorn.Server(config)._serve()  # noqa: SLF001  # `serve` would take over the signals
