"""Writes a response, as JSON or as a stream of typed events, and stores it if it should be."""

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from uuid import uuid4

import orjson
import structlog

from gateway.answering.answer import Answer
from gateway.errors import GatewayError, NotFound, StorageFull, StorageUnavailable
from gateway.generation import responses, stored_items
from gateway.generation.reply import Reply
from gateway.generation.request import Prepared
from gateway.generation.response_events import ResponseEvents
from gateway.schema import sse
from gateway.schema.chat_answer import Chunk
from gateway.schema.items import InputItem
from gateway.schema.responses_answer import (
    Event,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseEvent,
    ResponseUsage,
    TimedResponseUsage,
)
from gateway.schema.responses_request import ResponseRequest
from gateway.storage.responses import ResponseStore

log = structlog.get_logger()


class Keeper:
    """Stores a response: its request's items first, so that no image waits in memory, the output at its end.

    With `insists`, an answer that cannot be stored is refused.
    """

    def __init__(self, store: ResponseStore, caller: str, own: Sequence[InputItem], *, insists: bool) -> None:
        self._store = store
        self._caller = caller
        self._own = own
        self._insists = insists
        self.works = True

    async def begin(self, response_id: str, previous_id: str | None) -> None:
        """Store the request's items. Raises StorageUnavailable or StorageFull if the client insists."""
        items, self._own = stored_items.kept(self._own), ()
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


class ResponseWire:
    """Writes one answer as a response, or as its typed events."""

    def __init__(self, request: ResponseRequest, keeper: Keeper | None) -> None:
        self.id = f"resp_{uuid4().hex}"
        self._request = request.model_copy(update={"input": []})  # the images in it are not held
        self._keeper = keeper
        self._created = int(time.time())

    async def store(self) -> None:
        """Store the request's items, if the response is to be stored."""
        if self._keeper is not None:
            await self._keeper.begin(self.id, self._request.previous_response_id)

    def reply(self, prepared: Prepared) -> Reply:
        return Reply(prepared.dropped_images, blank=prepared.blank, tools=prepared.tools)

    async def json(self, answer: Answer[Chunk]) -> bytes:
        """Return the response that the last event of a stream has."""
        events = self._started(answer.prepared)
        async for chunk in answer:
            _exhaust(events.chunk(chunk))
        _exhaust(events.close())
        return orjson.dumps((await self._end(events, answer)).response)

    async def events(self, answer: Answer[Chunk]) -> AsyncGenerator[bytes]:
        """Yield the answer's events; if it fails, the last are `error` and `response.failed`."""
        events = self._started(answer.prepared)
        first = answer.take_first()
        try:
            yield _written([*events.begin(), *(events.chunk(first) if first else ())])
            async for chunk in answer:
                yield events.more_text(chunk) or _written(events.chunk(chunk))
        except GatewayError as error:
            yield _written(events.fail(error))
            return
        yield _written([*events.close(), await self._end(events, answer)])

    def _started(self, prepared: Prepared) -> ResponseEvents:
        return ResponseEvents(
            responses.started(
                self._request,
                self.id,
                self._created,
                prepared.model,
                prepared.job.sampling,
                stored=self._stored,
            )
        )

    async def _end(self, events: ResponseEvents, answer: Answer[Chunk]) -> ResponseEvent:
        used = answer.usage
        counts = (
            used.prompt_tokens,
            InputTokensDetails(used.prompt_tokens_details.cached_tokens),
            used.completion_tokens,
            OutputTokensDetails(),
            used.total_tokens,
        )
        options = self._request.stream_options
        timed = options is not None and options.include_timing
        usage = TimedResponseUsage(*counts, answer.context.log.timing) if timed else ResponseUsage(*counts)
        last = events.end(usage, int(time.time()))
        return await self._keeper.finish(last) if self._keeper and self._stored else last

    @property
    def _stored(self) -> bool:
        return self._keeper is not None and self._keeper.works


def _exhaust(events: Iterable[Event]) -> None:
    """Run through `events` without sending any: the response adds them up."""
    for _ in events:
        pass


def _written(events: Iterable[Event]) -> bytes:
    return b"".join(map(sse.typed, events))
