"""`POST /v1/responses`, and the count of the tokens that one would have."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from gateway.access.fair_threads import Aside
from gateway.access.memory_budgets import ReserveMemory
from gateway.answering.answer import Asked
from gateway.answering.context import RequestContext
from gateway.api.exchange import Exchange
from gateway.api.response_answer import Keeper, ResponseWire
from gateway.api.streaming import json_response
from gateway.errors import InvalidValue, UnsupportedEndpoint
from gateway.generation import responses, stored_items
from gateway.generation.request import ignored_header
from gateway.schema.chat_answer import Chunk
from gateway.schema.items import InputItem, ItemReference
from gateway.schema.paths import short
from gateway.schema.responses_request import ResponseRequest
from gateway.schema.validation import parse
from gateway.storage.responses import ResponseStore
from gateway.storage.stored_history import Wanted


def router(exchange: Exchange, reader: "Reader") -> APIRouter:
    """Return the routes, wired to what they need."""
    routes = APIRouter()

    @routes.post("/v1/responses", response_model=None)
    async def create_response(request: Request) -> Response:
        return await exchange.respond(request, reader.read)

    @routes.post("/v1/responses/input_tokens", response_model=None)
    async def count_input_tokens(request: Request) -> Response:
        return await exchange.compute(request, counted)

    async def counted(context: RequestContext, body: bytes) -> Response:
        caller, pipeline = context.caller, exchange.answering.pipeline
        aside, reserve = pipeline.aside(body, caller), exchange.answering.reserve_memory(context)
        request = await aside(partial(parse, body, ResponseRequest))
        conversation = await reader.conversation(request, caller.scope, reserve)
        wanted = await aside(partial(responses.read, request, conversation, "input_tokens", caller.scope))
        count = await pipeline.prompt_length(wanted, caller)
        content = {"object": "response.input_tokens", "input_tokens": count}
        return json_response(content, headers=ignored_header(wanted.ignored))

    @routes.post("/v1/responses/compact", response_model=None)
    async def compact() -> Response:
        raise UnsupportedEndpoint(
            "POST /v1/responses/compact: conversations are not compacted; see `truncation`"
        )

    return routes


class Reader:
    """Reads requests: what they refer to is stored."""

    def __init__(self, store: ResponseStore, max_images: int) -> None:
        self._store = store
        self._max_images = max_images

    async def read(
        self, body: bytes, context: RequestContext, aside: Aside, reserve: ReserveMemory
    ) -> Asked[Chunk]:
        """Return what a request asks for. Raises RequestError."""
        caller = context.caller.scope
        request = await aside(partial(parse, body, ResponseRequest))
        conversation = await self.conversation(request, caller, reserve)
        keeper = None
        if request.store is not False:
            keeper = Keeper(self._store, caller, conversation.own, insists=request.store is True)
        wire = ResponseWire(request, keeper)
        asked = await aside(partial(responses.read, request, conversation, wire.id, caller))
        return Asked(asked, wire, wire.store)

    async def conversation(
        self, request: ResponseRequest, caller: str, reserve: ReserveMemory
    ) -> responses.Conversation:
        """Return the items that the request adds up to, with memory reserved for those that are stored.

        Raises RequestError where one is not stored.
        """
        own = await self._own(request.input, caller, reserve)
        return responses.Conversation(await self._earlier(request, caller, reserve), own)

    async def _earlier(
        self, request: ResponseRequest, caller: str, reserve: ReserveMemory
    ) -> Sequence[InputItem]:
        if request.previous_response_id is None:
            return ()
        wanted = Wanted(caller, request.previous_response_id, max_images=self._max_images)
        await reserve(await self._store.conversation_size(wanted))
        return [stored_items.restored(item) for item in await self._store.conversation(wanted)]

    async def _own(
        self, items: Sequence[InputItem], caller: str, reserve: ReserveMemory
    ) -> tuple[InputItem, ...]:
        """Return a request's items, each reference replaced by the stored item."""
        ids = [item.id for item in items if isinstance(item, ItemReference)]
        if not ids:
            return tuple(items)
        await reserve(await self._store.items_size(caller, ids))
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
