"""`POST /v1/responses`, and what is stored of it."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response

from gateway.api import query
from gateway.api.exchange import Exchange, caller_of
from gateway.api.response_answer import Answer, Keeper
from gateway.api.streaming import json_response
from gateway.errors import InvalidValue, NotFound, StorageFull, StorageUnavailable, UnsupportedParameter
from gateway.generation import responses, stored_items
from gateway.generation.request import GenerationRequest
from gateway.schema.items import InputItem, ItemReference
from gateway.schema.paths import short
from gateway.schema.responses import IMAGE_URLS, INCLUDABLE, ResponseRequest
from gateway.schema.validation import parse
from gateway.storage.responses import ResponseStore, Wanted

log = structlog.get_logger()


def router(exchange: Exchange, store: ResponseStore) -> APIRouter:
    """Return the routes, wired to what they need."""
    routes = APIRouter()
    reader = _Reader(store, exchange.settings.max_images)

    @routes.post("/v1/responses", openapi_extra=_description(), response_model=None)
    async def create_response(request: Request) -> Response:
        return await exchange.respond(request, reader.read)

    @routes.post("/v1/responses/compact", response_model=None)
    async def compact() -> Response:
        raise NotFound("POST /v1/responses/compact: conversations are not compacted; see `truncation`")

    @routes.get("/v1/responses/{response_id}", response_model=None)
    async def retrieve_response(request: Request, response_id: str) -> Response:
        query.only(request, ("include", "include[]", "stream"))
        if query.choice(request, "stream", ("true", "false"), "false") == "true":
            raise UnsupportedParameter("stream: a stored response is told whole", param="stream")
        return Response(await store.body(caller_of(request), response_id), media_type="application/json")

    @routes.delete("/v1/responses/{response_id}", response_model=None)
    async def delete_response(request: Request, response_id: str) -> Response:
        await store.delete(caller_of(request), response_id)
        return json_response({"id": response_id, "object": "response", "deleted": True})

    @routes.post("/v1/responses/{response_id}/cancel", response_model=None)
    async def cancel_response(request: Request, response_id: str) -> Response:
        await store.body(caller_of(request), response_id)
        raise InvalidValue("the response was not created with `background`: it cannot be cancelled")

    @routes.get("/v1/responses/{response_id}/input_items", response_model=None)
    async def list_input_items(request: Request, response_id: str) -> Response:
        query.only(request, ("after", "include", "include[]", "limit", "order"))
        limit = query.integer(request, "limit", least=1, most=100, default=20)
        order = query.choice(request, "order", ("asc", "desc"), "desc")
        caller = caller_of(request)
        await store.body(caller, response_id)
        images = None if IMAGE_URLS in _included(request) else 0
        items = await store.conversation(Wanted(caller, response_id, output=False, max_images=images))
        listed = [stored_items.listed(item) for item in items]
        if order == "desc":
            listed.reverse()
        return json_response(_page(listed, limit, request.query_params.get("after")))

    return routes


class _Reader:
    """Reads requests: what they refer to is stored."""

    def __init__(self, store: ResponseStore, max_images: int) -> None:
        self._store = store
        self._max_images = max_images

    async def read(self, body: bytes, caller: str) -> tuple[GenerationRequest, Answer]:
        request = parse(body, ResponseRequest)
        responses.check(request)
        stored = await self._can_store(request)
        own = await self._own(request.input, caller)
        conversation = responses.Conversation(await self._earlier(request, caller), own)
        answer = Answer(request, Keeper(self._store, caller, own) if stored else None)
        return responses.read(request, conversation, answer.id, caller), answer

    async def _can_store(self, request: ResponseRequest) -> bool:
        """Say whether the response will be stored. Raises where it cannot be and the client insists."""
        if request.store is False:
            return False
        try:
            await self._store.check()
        except (StorageUnavailable, StorageFull):
            if request.store:
                raise
            return False
        return True

    async def _earlier(self, request: ResponseRequest, caller: str) -> Sequence[InputItem]:
        if request.previous_response_id is None:
            return ()
        wanted = Wanted(caller, request.previous_response_id, max_images=self._max_images)
        return [stored_items.restored(item) for item in await self._store.conversation(wanted)]

    async def _own(self, items: Sequence[InputItem], caller: str) -> tuple[InputItem, ...]:
        """Return a request's items, those that it refers to in the place of the references."""
        ids = [item.id for item in items if isinstance(item, ItemReference)]
        if not ids:
            return tuple(items)
        found = await self._store.items(caller, ids)
        own: list[InputItem] = []
        for place, item in enumerate(items):
            if not isinstance(item, ItemReference):
                own.append(item)
            elif item.id in found:
                own.append(stored_items.restored(found[item.id]))
            else:
                param = f"input[{place}].id"
                raise InvalidValue(f"{param}: no item {short(item.id)!r} is stored", param=param)
        return tuple(own)


def _included(request: Request) -> list[str]:
    """Return what the query includes; OpenAI's clients write the name with brackets."""
    given = request.query_params
    included = [*given.getlist("include"), *given.getlist("include[]")]
    for name in included:
        if name not in INCLUDABLE:
            raise InvalidValue(f"include: {short(name)!r} cannot be included", param="include")
    return included


def _page(items: list[dict[str, Any]], limit: int, after: str | None) -> dict[str, Any]:
    """Return up to `limit` of `items`, from the one that follows the item `after`. Raises InvalidValue."""
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidValue(f"after: no item {short(after)!r} is listed", param="after")
        items = items[ids.index(after) + 1 :]
    data = items[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(items) > len(data),
    }


def _description() -> dict[str, Any]:
    schema = ResponseRequest.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
