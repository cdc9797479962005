"""`POST /v1/completions`."""

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
from gateway.generation import completions
from gateway.generation.completions import TextReply, Whole
from gateway.generation.request import GenerationRequest, Prepared
from gateway.schema import sse
from gateway.schema.chat_request import StreamOptions
from gateway.schema.completions import CompletionRequest, TextCompletion
from gateway.schema.validation import parse


def router(exchange: Exchange) -> APIRouter:
    """Return the route, wired to what it needs."""
    routes = APIRouter()

    @routes.post("/v1/completions", response_model=None)
    async def create_completion(request: Request) -> Response:
        return await exchange.respond(request, read)

    return routes


async def read(body: bytes, caller: str, aside: Aside, _: Claim) -> tuple[GenerationRequest, "Answer"]:
    """Return what a request asks for, and who writes its answer. Raises RequestError."""
    return await aside(partial(_read, body, caller))


def _read(body: bytes, caller: str) -> tuple[GenerationRequest, "Answer"]:
    request = parse(body, CompletionRequest)
    answer = Answer(request)
    return completions.read(request, answer.id, caller), answer


class Answer:
    """One answer on the wire."""

    def __init__(self, request: CompletionRequest) -> None:
        self.id = f"cmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._request = request

    async def let_go(self) -> None:
        """Do nothing: there are no images."""

    async def whole(self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]) -> Response:
        """Return the completion: all that a stream would have told."""
        reply, answer = self._reply(prepared), Whole()
        if gain := reply.gain(first):
            answer.take(gain)
        async for delta in deltas:
            if gain := reply.gain(delta):
                answer.take(gain)
        choices, model = answer.choices(), prepared.model
        return json_response(
            TextCompletion(self.id, self._created, model, choices, reply.usage, prepared.fingerprint)
        )

    async def events(
        self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]
    ) -> AsyncGenerator[bytes]:
        """Yield the answer's events; one that cannot go on ends with an error and without `[DONE]`."""
        reply, options = self._reply(prepared), self._request.stream_options or StreamOptions()
        writer = sse.ChunkWriter(
            self.id,
            self._created,
            prepared.model,
            prepared.fingerprint,
            usage_follows=options.tells_usage,
            kind="text_completion",
        )

        def event(delta: Delta) -> bytes | None:
            gain = reply.gain(delta)
            usage = reply.usage if options.continuous_usage_stats else None
            return writer.text(gain, usage) if gain else None

        try:
            if told := event(first):
                yield told
            async for delta in deltas:
                if told := event(delta):
                    yield told
        except GatewayError as error:
            yield sse.error(error_body(error))
            return
        if options.tells_usage:
            yield writer.usage(last_usage(reply.usage, timed=options.include_timing))
        yield sse.DONE

    def _reply(self, prepared: Prepared) -> TextReply:
        return TextReply(prepared.texts, self._request.n or 1, silent=self._request.max_tokens == 0)
