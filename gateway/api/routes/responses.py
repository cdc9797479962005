"""`POST /v1/responses`, and what is stored of it."""

import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any
from uuid import uuid4

import structlog
from fastapi import APIRouter, Request, Response

from gateway.api.exchange import Exchange
from gateway.api.streaming import json_response
from gateway.engine.interface import Delta
from gateway.errors import GatewayError
from gateway.generation import responses
from gateway.generation.reply import Reply
from gateway.generation.request import GenerationRequest, Prepared
from gateway.generation.response_events import ResponseEvents
from gateway.schema import sse
from gateway.schema.response import Event, InputTokensDetails, OutputTokensDetails, ResponseEvent, Usage
from gateway.schema.responses import ResponseRequest
from gateway.schema.validation import parse

log = structlog.get_logger()


def router(exchange: Exchange) -> APIRouter:
    """Return the route, wired to what it needs."""
    routes = APIRouter()

    @routes.post("/v1/responses", openapi_extra=_description(), response_model=None)
    async def create_response(request: Request) -> Response:
        return await exchange.respond(request, _read)

    return routes


async def _read(body: bytes, caller: str) -> tuple[GenerationRequest, "Answer"]:
    request = parse(body, ResponseRequest)
    responses.check(request)
    answer = Answer(request)
    return responses.read(request, (), answer.id, caller), answer


class Answer:
    """One answer on the wire."""

    def __init__(self, request: ResponseRequest) -> None:
        self.id = f"resp_{uuid4().hex}"
        self._events = ResponseEvents(responses.started(request, self.id, int(time.time()), stored=False))

    async def whole(self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]) -> Response:
        """Return the response that the last event of a stream would have told."""
        self._reply = Reply(prepared.dropped_images)
        self._told(first)
        async for delta in deltas:
            self._told(delta)
        for _ in self._events.close():
            pass
        return json_response(self._end().response)

    async def events(
        self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]
    ) -> AsyncGenerator[bytes]:
        """Yield the answer's events; one that cannot go on ends with `error` and `response.failed`."""
        self._reply = Reply(prepared.dropped_images)
        try:
            yield _written([*self._events.begin(), *self._told(first)])
            async for delta in deltas:
                if events := self._told(delta):
                    yield _written(events)
        except GatewayError as error:
            log.warning("stream_failed", id=self.id, code=error.code)
            yield _written(self._events.fail(error))
            return
        yield _written([*self._events.close(), self._end()])

    def _end(self) -> ResponseEvent:
        return self._events.end(self._usage, int(time.time()))

    def _told(self, delta: Delta) -> list[Event]:
        chunk = self._reply.chunk(delta)
        return [] if chunk is None else list(self._events.chunk(chunk))

    @property
    def _usage(self) -> Usage:
        used = self._reply.usage
        return Usage(
            used.prompt_tokens,
            InputTokensDetails(used.prompt_tokens_details.cached_tokens),
            used.completion_tokens,
            OutputTokensDetails(),
            used.total_tokens,
        )


def _written(events: Iterable[Event]) -> bytes:
    return b"".join(map(sse.typed, events))


def _description() -> dict[str, Any]:
    schema = ResponseRequest.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
