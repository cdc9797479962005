"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any
from uuid import uuid4

import structlog
from fastapi import APIRouter, Request, Response

from gateway.access.admission import Admission
from gateway.api import body
from gateway.api.errors import error_body
from gateway.api.streaming import EventStream, json_response, while_connected
from gateway.engine.interface import Delta, Job
from gateway.errors import GatewayError
from gateway.generation.pipeline import Pipeline
from gateway.generation.reply import Reply, fold
from gateway.schema import sse
from gateway.schema.chat import ChatCompletionRequest, StreamOptions
from gateway.schema.completion import Completion
from gateway.schema.validation import parse
from gateway.settings import Settings

log = structlog.get_logger()


def router(settings: Settings, admission: Admission, pipeline: Pipeline) -> APIRouter:
    """Return the route, wired to what it needs."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", openapi_extra=_description(), response_model=None)
    async def create_chat_completion(request: Request) -> Response:
        arrived = time.perf_counter()
        async with AsyncExitStack() as held:
            # Admit before reading: a request that waits must hold no picture in memory.
            ahead = body.ReadAhead(request.receive)
            async with while_connected(ahead.look):
                await held.enter_async_context(admission.ticket())
            content = await body.read(request.headers, ahead.receive, settings)
            async with while_connected(request.receive):
                chat = parse(content)
                del content
                answer = Answer(chat.model, chat.stream_options or StreamOptions())
                job = await pipeline.prepare(chat, answer.id, _caller(request))
                deltas = await held.enter_async_context(aclosing(pipeline.run(job, arrived)))
                # Until the first delta is there, an error still has an HTTP status.
                first = await anext(deltas)
                request.state.facts = _facts(chat, job)
                if not chat.stream:
                    return await answer.whole(first, deltas)
            return EventStream(answer.events(first, deltas), held.pop_all(), settings.send_timeout)

    return routes


class Answer:
    """One answer on the wire."""

    def __init__(self, model: str, options: StreamOptions) -> None:
        self.id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        self._options = options
        self._reply = Reply()

    async def whole(self, first: Delta, deltas: AsyncGenerator[Delta]) -> Response:
        """Return the completion: the fold of the chunks that a stream would have had."""
        found = [self._reply.chunk(first)]
        async for delta in deltas:
            found.append(self._reply.chunk(delta))  # noqa: PERF401  # an asynchronous comprehension reads worse
        choices = fold(chunk for chunk in found if chunk is not None)
        return json_response(Completion(self.id, self._created, self._model, choices, self._reply.usage))

    async def events(self, first: Delta, deltas: AsyncGenerator[Delta]) -> AsyncGenerator[bytes]:
        """Yield the answer's events; one that cannot go on ends with an error and without `[DONE]`."""
        include_usage = bool(self._options.include_usage)
        writer = sse.ChunkWriter(self.id, self._created, self._model, usage_follows=include_usage)
        try:
            if event := self._event(writer, first):
                yield event
            async for delta in deltas:
                if event := self._event(writer, delta):
                    yield event
        except GatewayError as error:
            log.warning("stream_failed", id=self.id, code=error.code)
            yield sse.error(error_body(error))
            return
        if include_usage:
            yield writer.usage(self._reply.usage)
        yield sse.DONE

    def _event(self, writer: sse.ChunkWriter, delta: Delta) -> bytes | None:
        chunk = self._reply.chunk(delta)
        if chunk is None:
            return None
        return writer.chunk(chunk, self._reply.usage if self._options.continuous_usage_stats else None)


def _caller(request: Request) -> str:
    """Name whose request this is, so that no caller can meet another's pictures in a cache."""
    return request.headers.get("authorization", "")


def _facts(chat: ChatCompletionRequest, job: Job) -> dict[str, Any]:
    """Return what a request's line in the log says beside its status: sizes, no content."""
    return {"id": job.id, "stream": bool(chat.stream), "images": len(job.pictures)}


def _description() -> dict[str, Any]:
    schema = ChatCompletionRequest.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
