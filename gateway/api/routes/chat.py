"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncGenerator
from functools import partial
from uuid import uuid4

import orjson
from fastapi import APIRouter, Request, Response

from gateway.access.fair_threads import Aside
from gateway.access.memory_budgets import ReserveMemory
from gateway.answering.answer import Answer, Asked
from gateway.answering.context import RequestContext
from gateway.api.errors import error_body
from gateway.api.exchange import Exchange
from gateway.api.streaming import last_usage
from gateway.errors import GatewayError
from gateway.generation import chat
from gateway.generation.reply import Reply, fold, packed
from gateway.generation.request import Prepared
from gateway.schema import sse
from gateway.schema.chat_answer import Chunk, Completion
from gateway.schema.chat_request import ChatCompletionRequest, StreamOptions
from gateway.schema.validation import parse


def router(exchange: Exchange) -> APIRouter:
    """Return the route, wired to what it needs."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", response_model=None)
    async def create_chat_completion(request: Request) -> Response:
        return await exchange.respond(request, read)

    return routes


async def read(body: bytes, context: RequestContext, aside: Aside, _: ReserveMemory) -> Asked[Chunk]:
    """Return what a chat request asks for. Raises RequestError."""
    return await aside(partial(_read, body, context.caller.scope))


def _read(body: bytes, caller: str) -> Asked[Chunk]:
    request = parse(body, ChatCompletionRequest)
    wire = ChatWire(request.stream_options or StreamOptions())
    return Asked(chat.read(request, wire.id, caller), wire)


class ChatWire:
    """Writes one answer as a chat completion, or as its chunks."""

    def __init__(self, options: StreamOptions) -> None:
        self.id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._options = options

    def reply(self, prepared: Prepared) -> Reply:
        return Reply(prepared.dropped_images, blank=prepared.blank, tools=prepared.tools)

    async def json(self, answer: Answer[Chunk]) -> bytes:
        """Return the completion: the fold of the chunks that a stream has."""
        choices = fold([packed(chunk) async for chunk in answer])
        model, fingerprint = answer.prepared.model, answer.prepared.fingerprint
        return orjson.dumps(Completion(self.id, self._created, model, choices, answer.usage, fingerprint))

    async def events(self, answer: Answer[Chunk]) -> AsyncGenerator[bytes]:
        """Yield the answer's events; if it fails, the last is an error and there is no `[DONE]`."""
        options = self._options
        writer = sse.ChunkWriter(
            self.id,
            self._created,
            answer.prepared.model,
            answer.prepared.fingerprint,
            usage_follows=options.has_usage,
        )
        counts = options.continuous_usage_stats
        try:
            async for chunk in answer:
                yield writer.chunk(chunk, answer.usage if counts else None)
        except GatewayError as error:
            yield sse.error(error_body(error))
            return
        if options.has_usage:
            yield writer.usage(last_usage(answer, timed=options.include_timing))
        yield sse.DONE
