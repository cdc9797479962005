"""`/v1/batches`: many requests in a file, answered when there is room for them."""

import time
from collections.abc import Callable, Collection
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from gateway.access import memory_budgets
from gateway.access.limits import Limits
from gateway.answering.lifecycle import Lifecycle
from gateway.api import body, media, query
from gateway.api.exchange import context_of
from gateway.api.list_page import ListPage
from gateway.api.stored import StoredAnswers
from gateway.api.streaming import json_response
from gateway.errors import InvalidValue, NotFound
from gateway.schema.batches import WINDOW, Batch, BatchCreate
from gateway.schema.paths import short
from gateway.schema.validation import parse
from gateway.settings import Settings
from gateway.storage.batches import Batches, Owned
from gateway.storage.files import Files


def router(
    settings: Settings,
    lifecycle: Lifecycle,
    files: Files,
    batches: Batches,
    answers: StoredAnswers,
    *,
    limits: Limits,
    endpoints: Collection[str],
    wake: Callable[[], None],
) -> APIRouter:
    """Return the routes. `endpoints` may be asked in a batch; `wake` is called when there is one more."""
    routes = APIRouter()

    @routes.post("/v1/batches", response_model=None)
    async def create_batch(request: Request) -> Response:
        lifecycle.check()
        media.check_json(request.headers)
        await context_of(request).count(limits)
        caller = context_of(request).caller.scope
        # The body is read without a queue permit or a memory permit, so it must be small.
        content = await body.read(request.headers, request.receive, settings, limit=memory_budgets.FREE)
        asked = parse(content, BatchCreate)
        if asked.endpoint not in endpoints:
            known = " or ".join(f'"{endpoint}"' for endpoint in endpoints)
            raise InvalidValue(
                f'endpoint: it must be {known}; got "{short(asked.endpoint)}"', param="endpoint"
            )
        await _check_input(files, asked.input_file_id, caller)
        batch = _batch(asked, int(time.time()))
        kept = asked.output_expires_after.seconds if asked.output_expires_after else settings.state_ttl
        await batches.create(Owned(batch, caller, kept))
        wake()
        return json_response(batch)

    @routes.get("/v1/batches", response_model=None)
    async def list_batches(request: Request) -> Response:
        query.only(request, ("after", "limit"))
        limit = query.integer(request, "limit", least=1, most=100, default=20)

        caller, after = context_of(request).caller.scope, request.query_params.get("after")

        async def listed() -> Response:
            page = ListPage(limit)
            async for some in batches.pieces(caller, limit, after):
                page.add(some)
            return page.response()

        return await answers.full(request, memory_budgets.FREE * limit, listed)

    @routes.get("/v1/batches/{batch_id}", response_model=None)
    async def retrieve_batch(request: Request, batch_id: str) -> Response:
        return json_response(await batches.get(batch_id, context_of(request).caller.scope))

    @routes.post("/v1/batches/{batch_id}/cancel", response_model=None)
    async def cancel_batch(request: Request, batch_id: str) -> Response:
        batch = await batches.cancel(batch_id, context_of(request).caller.scope, int(time.time()))
        wake()
        return json_response(batch)

    return routes


async def _check_input(files: Files, file_id: str, caller: str) -> None:
    try:
        file = await files.get(file_id, caller)
    except NotFound as error:
        raise InvalidValue(f"input_file_id: {error.message}", param="input_file_id") from None
    if file.purpose != "batch":
        raise InvalidValue(
            f"input_file_id: the file's purpose must be `batch`; it is `{file.purpose}`",
            param="input_file_id",
        )


def _batch(asked: BatchCreate, now: int) -> Batch:
    return Batch(
        id=f"batch_{uuid4().hex}",
        endpoint=asked.endpoint,
        input_file_id=asked.input_file_id,
        completion_window=asked.completion_window,
        created_at=now,
        expires_at=now + WINDOW[asked.completion_window],
        metadata=asked.metadata,
    )
