"""What is stored of responses: to fetch, to list and to delete, by their caller alone."""

from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.api import query
from gateway.api.exchange import context_of
from gateway.api.stored import StoredAnswers
from gateway.api.streaming import json_response
from gateway.errors import InvalidValue, UnsupportedParameter
from gateway.generation import stored_items
from gateway.schema.paths import short
from gateway.schema.responses_request import IMAGE_URLS, INCLUDABLE
from gateway.storage.responses import ResponseStore
from gateway.storage.stored_history import Wanted


def router(store: ResponseStore, answers: StoredAnswers) -> APIRouter:
    """Return the routes for what is in `store`."""
    routes = APIRouter()

    @routes.get("/v1/responses/{response_id}", response_model=None)
    async def retrieve_response(request: Request, response_id: str) -> Response:
        query.only(request, ("include", "include[]", "stream"))
        if query.choice(request, "stream", ("true", "false"), "false") == "true":
            raise UnsupportedParameter("stream: a stored response cannot be streamed", param="stream")
        caller = context_of(request).caller.scope

        async def answer() -> Response:
            return Response(await store.body(caller, response_id), media_type="application/json")

        return await answers.full(request, await store.body_size(caller, response_id), answer)

    @routes.delete("/v1/responses/{response_id}", response_model=None)
    async def delete_response(request: Request, response_id: str) -> Response:
        await store.delete(context_of(request).caller.scope, response_id)
        return json_response({"id": response_id, "object": "response", "deleted": True})

    @routes.post("/v1/responses/{response_id}/cancel", response_model=None)
    async def cancel_response(request: Request, response_id: str) -> Response:
        await store.body_size(context_of(request).caller.scope, response_id)
        raise InvalidValue("the response was not created with `background`: it cannot be cancelled")

    @routes.get("/v1/responses/{response_id}/input_items", response_model=None)
    async def list_input_items(request: Request, response_id: str) -> Response:
        query.only(request, ("after", "include", "include[]", "limit", "order"))
        limit = query.integer(request, "limit", least=1, most=100, default=20)
        order = query.choice(request, "order", ("asc", "desc"), "desc")
        caller = context_of(request).caller.scope
        await store.body_size(caller, response_id)
        images = None if IMAGE_URLS in _included(request) else 0
        wanted = Wanted(caller, response_id, output=False, max_images=images)

        async def answer() -> Response:
            listed = [stored_items.listed(item) for item in await store.conversation(wanted)]
            if order == "desc":
                listed.reverse()
            return json_response(_page(listed, limit, request.query_params.get("after")))

        return await answers.full(request, await store.conversation_size(wanted), answer)

    return routes


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
