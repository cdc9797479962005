"""What every route that generates does: ticket → body → request → job → answer. A route adds its own wire."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request, Response

from gateway.access.admission import Admission
from gateway.api import body
from gateway.api.streaming import EventStream, while_connected
from gateway.engine.interface import Delta, Job
from gateway.generation.pipeline import Pipeline
from gateway.generation.request import GenerationRequest
from gateway.settings import Settings


class Answer(Protocol):
    """Writes one answer in the words of its route."""

    async def whole(self, first: Delta, deltas: AsyncGenerator[Delta]) -> Response:
        """Return the answer in one piece."""

    def events(self, first: Delta, deltas: AsyncGenerator[Delta]) -> AsyncGenerator[bytes]:
        """Yield the answer's server-sent events; one that cannot go on ends with an error event."""


# From a body and the caller's name to what is asked for and who writes the answer. Raises RequestError.
Read = Callable[[bytes, str], tuple[GenerationRequest, Answer]]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Answers the requests of all generating routes."""

    settings: Settings
    admission: Admission
    pipeline: Pipeline

    async def respond(self, request: Request, read: Read) -> Response:
        """Return the answer to `request`, whose body `read` understands."""
        arrived = time.perf_counter()
        async with AsyncExitStack() as held:
            # Admit before reading: a request that waits must hold no picture in memory.
            ahead = body.ReadAhead(request.receive)
            async with while_connected(ahead.look):
                await held.enter_async_context(self.admission.ticket())
            content = await body.read(request.headers, ahead.receive, self.settings)
            async with while_connected(request.receive):
                wanted, answer = read(content, _caller(request))
                del content
                job = await self.pipeline.prepare(wanted)
                deltas = await held.enter_async_context(aclosing(self.pipeline.run(job, arrived)))
                # Until the first delta is there, an error still has an HTTP status.
                first = await anext(deltas)
                request.state.facts = _facts(job)
                if not job.stream:
                    return await answer.whole(first, deltas)
            return EventStream(answer.events(first, deltas), held.pop_all(), self.settings.send_timeout)


def _caller(request: Request) -> str:
    """Name whose request this is, so that no caller can meet another's pictures in a cache."""
    return request.headers.get("authorization", "")


def _facts(job: Job) -> dict[str, Any]:
    """Return what a request's line in the log says beside its status: sizes, no content."""
    return {"id": job.id, "stream": job.stream, "images": len(job.pictures)}
