"""How a response is written: whole, or as a stream of typed events; and stored where it should be."""

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import orjson
import structlog
from fastapi import Response

from gateway.api.streaming import json_response
from gateway.engine.interface import Delta
from gateway.errors import GatewayError, StorageFull, StorageUnavailable
from gateway.generation import responses, stored_items
from gateway.generation.reply import Reply
from gateway.generation.request import Prepared
from gateway.generation.response_events import ResponseEvents
from gateway.schema import sse
from gateway.schema.items import InputItem
from gateway.schema.response import Event, InputTokensDetails, OutputTokensDetails, ResponseEvent, Usage
from gateway.schema.responses import ResponseRequest
from gateway.storage.responses import ResponseStore, StoredResponse

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Keeper:
    """Stores a response with the items that its request added to the conversation."""

    store: ResponseStore
    caller: str
    own: Sequence[InputItem]

    async def keep(self, event: ResponseEvent) -> ResponseEvent:
        """Return `event` once its response is stored; where it cannot be, the response says so."""
        response = event.response
        items = stored_items.kept(self.own, response.output)
        body = orjson.dumps(response)
        stored = StoredResponse(response.id, self.caller, response.previous_response_id, body, items)
        try:
            await self.store.put(stored)
        except (StorageUnavailable, StorageFull) as error:
            log.warning("response_not_stored", id=response.id, reason=error.message)
            return replace(event, response=replace(response, store=False))
        return event


class Answer:
    """One answer on the wire."""

    def __init__(self, request: ResponseRequest, keeper: Keeper | None) -> None:
        self.id = f"resp_{uuid4().hex}"
        self._request = request
        self._keeper = keeper
        self._created = int(time.time())

    async def whole(self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]) -> Response:
        """Return the response that the last event of a stream would have told."""
        self._begin(prepared)
        self._told(first)
        async for delta in deltas:
            self._told(delta)
        for _ in self._events.close():
            pass
        return json_response((await self._end()).response)

    async def events(
        self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]
    ) -> AsyncGenerator[bytes]:
        """Yield the answer's events; one that cannot go on ends with `error` and `response.failed`."""
        self._begin(prepared)
        try:
            yield _written([*self._events.begin(), *self._told(first)])
            async for delta in deltas:
                chunk = self._reply.chunk(delta)
                if chunk is not None:
                    yield self._events.more_text(chunk) or _written(self._events.chunk(chunk))
        except GatewayError as error:
            log.warning("stream_failed", id=self.id, code=error.code)
            yield _written(self._events.fail(error))
            return
        yield _written([*self._events.close(), await self._end()])

    def _begin(self, prepared: Prepared) -> None:
        self._reply = Reply(prepared.dropped_images, blank=prepared.blank)
        self._events = ResponseEvents(
            responses.started(
                self._request,
                self.id,
                self._created,
                prepared.job.sampling,
                stored=self._keeper is not None,
            )
        )

    def _told(self, delta: Delta) -> list[Event]:
        chunk = self._reply.chunk(delta)
        return [] if chunk is None else list(self._events.chunk(chunk))

    async def _end(self) -> ResponseEvent:
        used = self._reply.usage
        usage = Usage(
            used.prompt_tokens,
            InputTokensDetails(used.prompt_tokens_details.cached_tokens),
            used.completion_tokens,
            OutputTokensDetails(),
            used.total_tokens,
        )
        last = self._events.end(usage, int(time.time()))
        return last if self._keeper is None else await self._keeper.keep(last)


def _written(events: Iterable[Event]) -> bytes:
    return b"".join(map(sse.typed, events))
