"""Creates every part of the gateway and passes it to the parts that need it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from engine_config.profile import EngineProfile
from gateway.access.admission import Admission
from gateway.access.callers import Callers, is_loopback
from gateway.access.limits import Limits
from gateway.access.memory_budgets import MemoryBudgets
from gateway.answering.answer import Answering
from gateway.answering.deadlines import RunningRequests
from gateway.answering.lifecycle import Lifecycle
from gateway.answering.prepare import Pipeline
from gateway.api.browsers import BrowserGuard
from gateway.api.errors import answer_errors
from gateway.api.exchange import Exchange
from gateway.api.middleware import RequestMiddleware
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
from gateway.api.stored import StoredAnswers
from gateway.batches.batch_run import Shared, Stores
from gateway.batches.line import Lines, Readers
from gateway.batches.line_scheduler import LineScheduler
from gateway.batches.runner import BatchRunner
from gateway.engine.interface import Engine
from gateway.engine.supervisor import Report, Supervisor
from gateway.images.loader import PictureLoader
from gateway.settings import Settings
from gateway.storage import expiry
from gateway.storage.batches import Batches
from gateway.storage.database import Database
from gateway.storage.files import Files
from gateway.storage.responses import ResponseStore
from gateway.telemetry import tracing
from gateway.telemetry.metrics import Metrics

STATIC_PATHS = docs.PATHS | playground.PATHS
OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready"}) | STATIC_PATHS
CORS_MAX_AGE = 7200  # seconds a browser keeps a preflight's answer; Chromium's maximum


def create_app(
    settings: Settings,
    profile: EngineProfile,
    make_engine: Callable[[Report], Engine],
    on_failure: Callable[[BaseException], None],
) -> FastAPI:
    """Return the application. It starts the engine from `make_engine` and answers 503 until that is ready.

    `on_failure` is called if the engine cannot be kept running.
    """
    parts = _Parts(settings, profile, make_engine)
    settings = parts.settings
    app = FastAPI(
        title="llava-gateway",
        lifespan=lambda _: parts.alive(on_failure),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # A redirect would be built from the Host header, and send a client behind TLS to plain http.
        redirect_slashes=False,
    )
    answer_errors(app)
    for router in parts.routers():
        app.include_router(router)
    describe(app, profile.served_name)
    app.add_middleware(
        RequestMiddleware,
        metrics=parts.metrics,
        lifecycle=parts.lifecycle,
        callers=parts.callers,
        open_paths=_open_paths(settings),
        static_paths=STATIC_PATHS,
        guard=BrowserGuard(settings, keyed=parts.callers.keyed),
        running=parts.running,
        tracing=parts.spans,
    )
    if settings.cors_origins:
        # Outside RequestMiddleware, so that its 401 and 500 responses have the headers too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=["*"],
            max_age=CORS_MAX_AGE,
        )
    app.state.metrics, app.state.loader = parts.metrics, parts.loader
    app.state.callers = parts.callers
    app.state.supervisor, app.state.lifecycle = parts.supervisor, parts.lifecycle
    app.state.running = parts.running
    return app


class _Parts:
    """The parts of one gateway, wired together."""

    def __init__(
        self, settings: Settings, profile: EngineProfile, make_engine: Callable[[Report], Engine]
    ) -> None:
        self.callers = Callers(settings)
        self.settings = settings = settings.completed(profile.max_num_seqs, keyed=self.callers.keyed)
        self.profile = profile
        self.metrics = metrics = Metrics()
        metrics.keys_file_stale.set_function(lambda: self.callers.stale)
        self.spans = tracing.start(os.environ)
        self.lifecycle = Lifecycle()
        self.admission = Admission(settings, metrics, profile.max_num_seqs)
        self.limits = Limits(settings, metrics)
        self.memory = MemoryBudgets(settings, metrics)
        self.running = RunningRequests(settings, metrics)
        self.database = _database(settings)
        self.files = Files(self.database)
        self.batches = Batches(self.database)
        self.responses = ResponseStore(self.database, settings.state_ttl, settings.body_max_bytes)
        self.supervisor = Supervisor(make_engine, metrics, settings.heartbeat_timeout)
        metrics.measure = self.supervisor.measure
        self.loader = PictureLoader(settings, metrics, self.memory, self.files)
        self.pipeline = Pipeline(self.supervisor, self.loader, profile, settings, metrics)
        self.answering = Answering(self.pipeline, self.admission, self.limits, self.memory)
        self.reader = responses.Reader(self.responses, settings.max_images)
        # Batches may use these endpoints; their requests are read like those over HTTP.
        self.readers: Readers = {
            "/v1/chat/completions": chat.read,
            "/v1/completions": completions.read,
            "/v1/responses": self.reader.read,
        }
        self.runner = self._batch_runner()

    def _batch_runner(self) -> BatchRunner:
        settings, metrics = self.settings, self.metrics
        at_once = max(1, min(settings.batch_max_running, self.profile.max_num_seqs // 2))
        return BatchRunner(
            Shared(
                Stores(self.database, self.batches, self.files),
                Lines(self.batches, self.readers, self.answering, settings),
                LineScheduler(
                    self.admission, at_once, lambda: self.lifecycle.draining, metrics.batch_lines_running
                ),
                settings,
                metrics,
                model=self.profile.served_name,
                is_known=self.callers.known,
            )
        )

    def routers(self) -> Iterator[APIRouter]:
        """Yield the routes, the most used first: they are searched in this order."""
        settings, lifecycle = self.settings, self.lifecycle
        exchange = Exchange(settings, self.admission, lifecycle, self.running, self.answering)
        yield chat.router(exchange)
        yield tokens.router(exchange)
        if settings.playground != "share":
            yield from self._unshared_routers(exchange)
        yield models.router(self.profile, settings, self.supervisor)
        yield operations.router(self.supervisor, lifecycle)
        if has_playground(settings):
            examples = playground.load_examples(settings.playground_examples)
            yield playground.router(share=settings.playground == "share", examples=examples)

    def _unshared_routers(self, exchange: Exchange) -> Iterator[APIRouter]:
        """Yield the routes that a public demo lacks: those that store, and those that only programs use."""
        settings, lifecycle = self.settings, self.lifecycle
        yield completions.router(exchange)
        yield responses.router(exchange, self.reader)
        answers = StoredAnswers(self.memory, settings.send_timeout)
        yield stored_responses.router(self.responses, answers)
        yield files.router(settings, self.files, lifecycle, answers, self.limits)
        yield batches.router(
            settings,
            lifecycle,
            self.files,
            self.batches,
            answers,
            limits=self.limits,
            endpoints=tuple(self.readers),
            wake=self.runner.wake,
        )
        if settings.metrics_port is None:
            yield operations.metrics_router(self.metrics)
        yield docs.router()

    @asynccontextmanager
    async def alive(self, on_failure: Callable[[BaseException], None]) -> AsyncIterator[None]:
        """Run the engine and the background tasks during the block, then close all parts."""
        supervising = asyncio.create_task(self.supervisor.run())
        supervising.add_done_callback(lambda task: None if task.cancelled() else on_failure(_reason(task)))
        background = [
            asyncio.create_task(work)
            for work in (
                self.callers.watch(),
                self.running.watch(),
                expiry.run(self.database),
                self.runner.run(),
            )
        ]
        yield
        supervising.cancel()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self.supervisor.shutdown()
        await asyncio.gather(self.pipeline.close(), self.loader.close())
        await self.database.close()
        await self.limits.close()
        await tracing.close(self.spans)


def create_metrics_app(metrics: Metrics, callers: Callers, settings: Settings) -> FastAPI:
    """Return the application for the separate port that serves only `/metrics`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    answer_errors(app)
    keyed = settings.metrics_access == "key"
    guard = BrowserGuard(settings, keyed=callers.keyed)
    app.include_router(operations.metrics_router(metrics, callers if keyed else None, guard))
    return app


def _open_paths(settings: Settings) -> frozenset[str]:
    """Return the paths that need no API key."""
    return OPEN_PATHS | {"/metrics"} if settings.metrics_access == "open" else OPEN_PATHS


def has_playground(settings: Settings) -> bool:
    """Return whether `/` is the playground. With `auto`, only if other machines cannot reach the gateway."""
    if settings.playground == "auto":
        return is_loopback(settings.host)
    return settings.playground in ("on", "share")


def state_problem(settings: Settings) -> str | None:
    """Return what is wrong with `state_url`, without its password, or None."""
    if settings.state_url is None:
        return None
    from gateway.storage.postgres import url_problem

    return url_problem(settings.state_url)


def _database(settings: Settings) -> Database:
    limits = settings.state_max_bytes, settings.state_max_bytes_per_caller
    if settings.state_url is None:
        return Database(settings.state_dir, *limits)
    from gateway.storage.postgres import Postgres

    return Postgres(settings.state_url, *limits)


def _reason(task: asyncio.Task[None]) -> BaseException:
    return task.exception() or RuntimeError("the engine's supervisor ended")
