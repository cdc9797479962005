"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncGenerator
from functools import partial
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from gateway.access.fair_threads import Aside
from gateway.access.memory_budgets import Claim
from gateway.api.errors import error_body
from gateway.api.exchange import Exchange
from gateway.api.streaming import json_response, last_usage
from gateway.engine.interface import Delta
from gateway.errors import GatewayError
from gateway.generation import chat
from gateway.generation.reply import Reply, fold, packed
from gateway.generation.request import GenerationRequest, Prepared
from gateway.schema import sse
from gateway.schema.chat_answer import Completion
from gateway.schema.chat_request import ChatCompletionRequest, StreamOptions
from gateway.schema.validation import parse


def router(exchange: Exchange) -> APIRouter:
    """Return the route, wired to what it needs."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", response_model=None)
    async def create_chat_completion(request: Request) -> Response:
        return await exchange.respond(request, read)

    return routes


async def read(body: bytes, caller: str, aside: Aside, _: Claim) -> tuple[GenerationRequest, "Answer"]:
    """Return what a chat request asks for, and who writes its answer. Raises RequestError."""
    return await aside(partial(_read, body, caller))


def _read(body: bytes, caller: str) -> tuple[GenerationRequest, "Answer"]:
    request = parse(body, ChatCompletionRequest)
    answer = Answer(request.stream_options or StreamOptions())
    return chat.read(request, answer.id, caller), answer


class Answer:
    """One answer on the wire."""

    def __init__(self, options: StreamOptions) -> None:
        self.id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._options = options

    async def let_go(self) -> None:
        """Do nothing: the request's images are not kept."""

    async def whole(self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]) -> Response:
        """Return the completion: the fold of the chunks that a stream would have had."""
        self._reply = Reply(prepared.dropped_images, blank=prepared.blank, tools=prepared.tools)
        found = [self._reply.chunk(first)]
        async for delta in deltas:
            chunk = self._reply.chunk(delta)
            found.append(chunk and packed(chunk))
        choices = fold(chunk for chunk in found if chunk is not None)
        return json_response(
            Completion(
                self.id, self._created, prepared.model, choices, self._reply.usage, prepared.fingerprint
            )
        )

    async def events(
        self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]
    ) -> AsyncGenerator[bytes]:
        """Yield the answer's events; one that cannot go on ends with an error and without `[DONE]`."""
        self._reply = Reply(prepared.dropped_images, blank=prepared.blank, tools=prepared.tools)
        tells_usage = self._options.tells_usage
        writer = sse.ChunkWriter(
            self.id, self._created, prepared.model, prepared.fingerprint, usage_follows=tells_usage
        )
        try:
            if event := self._event(writer, first):
                yield event
            async for delta in deltas:
                if event := self._event(writer, delta):
                    yield event
        except GatewayError as error:
            yield sse.error(error_body(error))
            return
        if tells_usage:
            yield writer.usage(last_usage(self._reply.usage, timed=self._options.include_timing))
        yield sse.DONE

    def _event(self, writer: sse.ChunkWriter, delta: Delta) -> bytes | None:
        chunk = self._reply.chunk(delta)
        if chunk is None:
            return None
        return writer.chunk(chunk, self._reply.usage if self._options.continuous_usage_stats else None)
