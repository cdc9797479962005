"""How a response is written: whole, or as a stream of typed events; and stored where it should be."""

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from uuid import uuid4

import orjson
import structlog
from fastapi import Response

from gateway.api.streaming import json_response
from gateway.engine.interface import Delta
from gateway.errors import GatewayError, NotFound, StorageFull, StorageUnavailable
from gateway.generation import responses, stored_items
from gateway.generation.reply import Reply
from gateway.generation.request import Prepared
from gateway.generation.response_events import ResponseEvents
from gateway.schema import sse
from gateway.schema.items import InputItem
from gateway.schema.responses_answer import (
    Event,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseEvent,
    TimedUsage,
    Usage,
)
from gateway.schema.responses_request import ResponseRequest
from gateway.storage.responses import ResponseStore
from gateway.telemetry import request_log

log = structlog.get_logger()


class Keeper:
    """Stores a response: its request's items first, so that no image waits in memory, the rest at its end.

    `insists` says whether the client would rather have no answer than one that is not stored.
    """

    def __init__(self, store: ResponseStore, caller: str, own: Sequence[InputItem], *, insists: bool) -> None:
        self._store = store
        self._caller = caller
        self._own: Sequence[InputItem] | None = own
        self._insists = insists
        self.works = True

    async def begin(self, response_id: str, previous_id: str | None) -> None:
        """Store the request's items, once. Raises what the storage does where the client insists."""
        if self._own is None:
            return
        items, self._own = stored_items.kept(self._own), None
        try:
            await self._store.begin(self._caller, response_id, previous_id, items)
        except (StorageUnavailable, StorageFull):
            if self._insists:
                raise
            self.works = False

    async def finish(self, event: ResponseEvent) -> ResponseEvent:
        """Return `event` once its response is stored; where it cannot be, the response says so."""
        response = event.response
        output = stored_items.kept_output(response.output)
        try:
            await self._store.finish(self._caller, response.id, orjson.dumps(response), output)
        except (StorageUnavailable, StorageFull, NotFound) as error:
            log.warning("response_not_stored", id=response.id, reason=error.message)
            return replace(event, response=replace(response, store=False))
        return event


class Answer:
    """One answer on the wire."""

    def __init__(self, request: ResponseRequest, keeper: Keeper | None) -> None:
        self.id = f"resp_{uuid4().hex}"
        self._request = request.model_copy(update={"input": []})  # the images in it are not held
        self._keeper = keeper
        self._created = int(time.time())

    async def let_go(self) -> None:
        """Store the request's items, which have its images."""
        if self._keeper is not None:
            await self._keeper.begin(self.id, self._request.previous_response_id)

    async def whole(self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]) -> Response:
        """Return the response that the last event of a stream would have told."""
        await self._begin(prepared)
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
        await self._begin(prepared)
        try:
            yield _written([*self._events.begin(), *self._told(first)])
            async for delta in deltas:
                chunk = self._reply.chunk(delta)
                if chunk is not None:
                    yield self._events.more_text(chunk) or _written(self._events.chunk(chunk))
        except GatewayError as error:
            yield _written(self._events.fail(error))
            return
        yield _written([*self._events.close(), await self._end()])

    async def _begin(self, prepared: Prepared) -> None:
        await self.let_go()  # where nobody did it before
        self._reply = Reply(prepared.dropped_images, blank=prepared.blank, tools=prepared.tools)
        self._events = ResponseEvents(
            responses.started(
                self._request,
                self.id,
                self._created,
                prepared.model,
                prepared.job.sampling,
                stored=self._stored,
            )
        )

    def _told(self, delta: Delta) -> list[Event]:
        chunk = self._reply.chunk(delta)
        return [] if chunk is None else list(self._events.chunk(chunk))

    async def _end(self) -> ResponseEvent:
        used = self._reply.usage
        counts = (
            used.prompt_tokens,
            InputTokensDetails(used.prompt_tokens_details.cached_tokens),
            used.completion_tokens,
            OutputTokensDetails(),
            used.total_tokens,
        )
        options = self._request.stream_options
        timed = options is not None and options.include_timing
        usage = TimedUsage(*counts, request_log.current().timing) if timed else Usage(*counts)
        last = self._events.end(usage, int(time.time()))
        return await self._keeper.finish(last) if self._keeper and self._stored else last

    @property
    def _stored(self) -> bool:
        return self._keeper is not None and self._keeper.works


def _written(events: Iterable[Event]) -> bytes:
    return b"".join(map(sse.typed, events))
