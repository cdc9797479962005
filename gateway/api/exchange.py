"""From an HTTP request to its answer: admit → read the body → answer → send. A route adds its wire format."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from fastapi import Request, Response

from gateway.access.admission import Admission
from gateway.access.fair_semaphore import Permit
from gateway.access.memory_budgets import COPIES, keep
from gateway.answering.answer import Answer, Answering, Asked, Read
from gateway.answering.context import RequestContext
from gateway.answering.deadlines import RunningRequests
from gateway.answering.lifecycle import Lifecycle
from gateway.api import body, media
from gateway.api.streaming import EventStream, until_sent, while_connected
from gateway.settings import Settings


@dataclass(slots=True)
class _Body:
    """A request's body, and the permit for the memory that it takes."""

    content: bytes
    permit: Permit

    def take(self) -> bytes:
        """Return the body; nothing else refers to it from then on."""
        content, self.content = self.content, b""
        return content


@dataclass(frozen=True, slots=True)
class Exchange:
    """Answers the requests of all generating routes."""

    settings: Settings
    admission: Admission
    lifecycle: Lifecycle
    running: RunningRequests
    answering: Answering

    async def respond(self, request: Request, read: Read) -> Response:
        """Return the answer to `request`: admit, read the body, answer, send. `read` parses the body."""
        context = await self._enter(request)
        async with context.permits:
            limited = self.running.limited(context.running, _client_timeout(request))
            context.permits.enter_context(limited)
            sent = await self._admitted(request, context)
            async with while_connected(request.receive):
                answer = await self.answering.answer(context, await self._asked(context, sent, read))
                if not answer.stream:
                    return self._sent(await _json(answer), context)
            notices = answer.prepared.notices
            return EventStream(
                answer.events(), context.permits.pop_all(), self.settings.send_timeout, notices
            )

    async def compute(
        self, request: Request, answer: Callable[[RequestContext, bytes], Awaitable[Response]]
    ) -> Response:
        """Return what `answer` makes of the body of `request`, without the engine."""
        context = await self._enter(request)
        async with context.permits:
            sent = await self._admitted(request, context)
            return self._sent(await answer(context, sent.take()), context)

    async def _enter(self, request: Request) -> RequestContext:
        """Check what can be checked before the body is read."""
        self.lifecycle.check()
        media.check_json(request.headers)
        context = context_of(request)
        await context.count(self.answering.limits)
        return context

    async def _admitted(self, request: Request, context: RequestContext) -> _Body:
        """Return the body, which is read once there is a permit for the request and for its memory."""
        # Admit before reading: a request that waits must hold no picture in memory.
        ahead = body.ReadAhead(request.receive)
        context.log.enter("waiting")
        async with while_connected(ahead.look):
            await context.permits.enter_async_context(self.admission.queue_permit(context.caller))
            context.running.resume()
            context.log.enter("body")
            memory = self.answering.memory.body(context.caller, body.announced(request.headers))
            permit = await context.input_permits.enter_async_context(memory)
        content = await body.read(request.headers, ahead.receive, self.settings)
        keep(permit, COPIES * len(content))
        return _Body(content, permit)

    async def _asked(self, context: RequestContext, sent: _Body, read: Read) -> Asked[Any]:
        content = sent.take()
        asked = await self.answering.read(context, content, read)
        keep(sent.permit, len(content))
        return asked

    def _sent(self, response: Response, context: RequestContext) -> Response:
        """Return `response`; if it is large, its permits are held until the client has taken it."""
        return until_sent(response, context.permits, self.settings.send_timeout)


def context_of(request: Request) -> RequestContext:
    """Return the context that the middleware made for `request`."""
    context: RequestContext = request.state.context
    return context


async def _json(answer: Answer[Any]) -> Response:
    content = await answer.json()
    headers = answer.prepared.notices | {"server-timing": answer.context.log.server_timing}
    return Response(content, 200, headers, "application/json")


def _client_timeout(request: Request) -> float:
    """Return for how many seconds the client waits for the next bytes, as OpenAI's clients say."""
    stated = request.headers.get("x-stainless-read-timeout", "")
    try:
        seconds = float(stated)
    except ValueError:
        return inf
    return seconds if seconds > 0 else inf
