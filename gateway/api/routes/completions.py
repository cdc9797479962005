"""`POST /v1/completions`."""

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
from gateway.generation import completions
from gateway.generation.completions import TextChoices, TextReply
from gateway.generation.request import Prepared
from gateway.schema import sse
from gateway.schema.chat_request import StreamOptions
from gateway.schema.completions import CompletionRequest, TextChoice, TextCompletion
from gateway.schema.validation import parse


def router(exchange: Exchange) -> APIRouter:
    """Return the route, wired to what it needs."""
    routes = APIRouter()

    @routes.post("/v1/completions", response_model=None)
    async def create_completion(request: Request) -> Response:
        return await exchange.respond(request, read)

    return routes


async def read(body: bytes, context: RequestContext, aside: Aside, _: ReserveMemory) -> Asked[TextChoice]:
    """Return what a completion request asks for. Raises RequestError."""
    return await aside(partial(_read, body, context.caller.scope))


def _read(body: bytes, caller: str) -> Asked[TextChoice]:
    request = parse(body, CompletionRequest)
    wire = CompletionWire(request)
    return Asked(completions.read(request, wire.id, caller), wire)


class CompletionWire:
    """Writes one answer as a text completion, or as its chunks."""

    def __init__(self, request: CompletionRequest) -> None:
        self.id = f"cmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._request = request

    def reply(self, prepared: Prepared) -> TextReply:
        return TextReply(prepared.texts, self._request.n or 1, silent=self._request.max_tokens == 0)

    async def json(self, answer: Answer[TextChoice]) -> bytes:
        """Return the completion: all that a stream says."""
        collected = TextChoices()
        async for chunk in answer:
            collected.take(chunk)
        choices, model, fingerprint = collected.choices(), answer.prepared.model, answer.prepared.fingerprint
        return orjson.dumps(TextCompletion(self.id, self._created, model, choices, answer.usage, fingerprint))

    async def events(self, answer: Answer[TextChoice]) -> AsyncGenerator[bytes]:
        """Yield the answer's events; if it fails, the last is an error and there is no `[DONE]`."""
        options = self._request.stream_options or StreamOptions()
        writer = sse.ChunkWriter(
            self.id,
            self._created,
            answer.prepared.model,
            answer.prepared.fingerprint,
            usage_follows=options.has_usage,
            kind="text_completion",
        )
        counts = options.continuous_usage_stats
        try:
            async for chunk in answer:
                yield writer.text(chunk, answer.usage if counts else None)
        except GatewayError as error:
            yield sse.error(error_body(error))
            return
        if options.has_usage:
            yield writer.usage(last_usage(answer, timed=options.include_timing))
        yield sse.DONE
