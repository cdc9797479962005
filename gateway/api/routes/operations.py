"""What operators ask for: health and metrics."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.access.callers import Callers
from gateway.answering.lifecycle import Lifecycle
from gateway.api.browsers import BrowserGuard
from gateway.api.streaming import json_response
from gateway.engine.supervisor import Supervisor
from gateway.telemetry.metrics import Metrics


def router(supervisor: Supervisor, lifecycle: Lifecycle) -> APIRouter:
    """Return the health checks; `/health` is `/health/ready`."""
    routes = APIRouter()

    @routes.get("/health/live")
    async def live() -> Response:
        return json_response({"status": "live"})

    @routes.get("/health")
    @routes.get("/health/ready")
    async def ready() -> Response:
        if lifecycle.draining:
            return json_response({"status": "shutting down"}, 503)
        if supervisor.ready:
            return json_response({"status": "ready"})
        return json_response(_start(supervisor), 503, {"retry-after": "5"})

    return routes


def _start(supervisor: Supervisor) -> dict[str, Any]:
    """Return what the start under way does, for how long, and how far it is."""
    state: dict[str, Any] = {
        "status": "starting",
        "stage": supervisor.stage,
        "seconds": round(supervisor.elapsed, 1),
    }
    if progress := supervisor.progress:
        left = progress.seconds_left
        state["progress"] = {
            "step": progress.doing,
            "done_bytes": progress.done,
            "total_bytes": progress.total,
            "seconds_left": None if left is None else round(left, 1),
        }
    return state


def metrics_router(
    metrics: Metrics, callers: Callers | None = None, guard: BrowserGuard | None = None
) -> APIRouter:
    """Return `GET /metrics`. `callers` and `guard` check requests that pass no middleware before."""
    routes = APIRouter()

    @routes.get("/metrics")
    async def page(request: Request) -> Response:
        if guard is not None:
            guard.check(request.method, request.scope["path"], request.headers)
        if callers is not None:
            callers.identify(request.headers, "")
        await asyncio.to_thread(metrics.measure)
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
