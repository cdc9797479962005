"""The only place where the parts are put together."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from engine_config.profile import EngineProfile
from gateway.access.admission import Admission
from gateway.access.callers import Callers, is_loopback
from gateway.access.lifecycle import Lifecycle
from gateway.access.limits import Limits
from gateway.access.memory import Memory
from gateway.access.running import RunningRequests
from gateway.api.edge import Edge
from gateway.api.errors import answer_errors
from gateway.api.exchange import Exchange
from gateway.api.openapi import describe
from gateway.api.routes import (
    batches,
    chat,
    completions,
    docs,
    files,
    models,
    operations,
    playground,
    responses,
    stored_responses,
    tokens,
)
from gateway.batches.gate import Gate
from gateway.batches.line import Doors, Lines
from gateway.batches.runner import BatchRunner, Stores
from gateway.engine.interface import Engine
from gateway.engine.supervisor import Report, Supervisor
from gateway.generation.pipeline import Pipeline
from gateway.images.loader import PictureLoader
from gateway.settings import Settings
from gateway.storage.batches import Batches
from gateway.storage.database import Database
from gateway.storage.files import Files
from gateway.storage.responses import ResponseStore
from gateway.storage.sweep import sweep_forever
from gateway.telemetry import tracing
from gateway.telemetry.metrics import Metrics

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready"}) | docs.PATHS | playground.PATHS
CORS_MAX_AGE = 7200  # seconds a browser keeps a preflight's answer; Chromium's maximum


def create_app(
    settings: Settings,
    profile: EngineProfile,
    make_engine: Callable[[Report], Engine],
    on_failure: Callable[[BaseException], None],
) -> FastAPI:
    """Return the application. It starts the engine that `make_engine` makes and answers 503 until that is up.

    `on_failure` is told when the engine cannot be kept running.
    """
    callers = Callers(settings)
    settings = settings.completed(profile.max_num_seqs, keyed=callers.keyed)
    metrics = Metrics()
    spans = tracing.start(os.environ)
    supervisor = Supervisor(make_engine, metrics, settings.heartbeat_timeout)
    admission = Admission(settings, metrics, profile.max_num_seqs)
    limits = Limits(settings, metrics)
    lifecycle = Lifecycle()
    running = RunningRequests(settings, metrics)
    database = Database(settings.state_dir, settings.state_max_bytes, settings.state_max_bytes_per_caller)
    stored = Files(database)
    memory = Memory(settings, metrics)
    loader = PictureLoader(settings, metrics, memory, stored)

    pipeline = Pipeline(supervisor, loader, profile, settings, metrics)
    store = ResponseStore(database, settings.state_ttl, settings.body_max_bytes)
    reader = responses.Reader(store, settings.max_images)
    kept = Batches(database)
    doors: Doors = {
        "/v1/chat/completions": chat.read,
        "/v1/completions": completions.read,
        "/v1/responses": reader.read,
    }
    at_once = max(1, min(settings.batch_max_running, profile.max_num_seqs // 2))
    gate = Gate(admission, at_once, lambda: lifecycle.draining, metrics.batch_lines_running)
    runner = BatchRunner(
        Stores(database, kept, stored),
        Lines(doors, pipeline, settings.request_timeout),
        gate,
        settings,
        metrics,
        model=profile.served_name,
        width=at_once,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        supervising = asyncio.create_task(supervisor.run())
        supervising.add_done_callback(lambda task: None if task.cancelled() else on_failure(_reason(task)))
        helpers = [
            asyncio.create_task(helper) for helper in (running.watch(), sweep_forever(database), runner.run())
        ]
        yield
        supervising.cancel()
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await supervisor.shutdown()
        await asyncio.gather(pipeline.close(), loader.close())
        await database.close()
        await limits.close()
        await tracing.close(spans)

    # A redirect's address would be made of the Host header, and send a client behind TLS to plain http.
    app = FastAPI(
        title="llava-gateway",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    answer_errors(app)
    exchange = Exchange(settings, admission, pipeline, lifecycle, running, limits, memory)
    for router in (
        chat.router(exchange),
        completions.router(exchange),
        tokens.router(exchange),
        responses.router(exchange, reader),
        stored_responses.router(store),
        files.router(settings, stored, lifecycle),
        batches.router(settings, lifecycle, stored, kept, endpoints=tuple(doors), wake=runner.wake),
        models.router(profile, settings, supervisor),
        operations.router(supervisor, lifecycle),
    ):
        app.include_router(router)
    if settings.metrics_port is None:
        app.include_router(operations.metrics_router(metrics))
    app.include_router(docs.router())
    if _has_playground(settings):
        app.include_router(playground.router())
    describe(app, profile.served_name)
    app.add_middleware(
        Edge,
        metrics=metrics,
        lifecycle=lifecycle,
        callers=callers,
        open_paths=_open_paths(settings),
        tracing=spans,
    )
    if settings.cors_origins:
        # Outside the edge, so that a 401 or a 500 of its own carries the headers too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=["*"],
            max_age=CORS_MAX_AGE,
        )
    app.state.metrics, app.state.loader = metrics, loader
    app.state.supervisor, app.state.lifecycle, app.state.running = supervisor, lifecycle, running
    return app


def create_metrics_app(metrics: Metrics) -> FastAPI:
    """Return what answers on the port that is for `/metrics` alone."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(operations.metrics_router(metrics))
    return app


def _open_paths(settings: Settings) -> frozenset[str]:
    """Return the paths that are answered without an API key."""
    return OPEN_PATHS | {"/metrics"} if settings.metrics_access == "open" else OPEN_PATHS


def _has_playground(settings: Settings) -> bool:
    """Return whether `/` is the playground: by itself only where other machines cannot reach it."""
    if settings.playground == "auto":
        return is_loopback(settings.host)
    return settings.playground == "on"


def _reason(task: asyncio.Task[None]) -> BaseException:
    return task.exception() or RuntimeError("the engine's supervisor ended")
