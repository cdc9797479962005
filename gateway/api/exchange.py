"""What every route that generates does: ticket → body → request → job → answer. A route adds its own wire."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Protocol

from fastapi import Request, Response

from gateway.access.admission import Admission
from gateway.access.callers import Caller
from gateway.access.fair_semaphore import Permit
from gateway.access.fair_threads import Aside
from gateway.access.lifecycle import Lifecycle
from gateway.access.limits import Account, Limits
from gateway.access.memory_budgets import COPIES, Claim, MemoryBudgets, keep
from gateway.access.running import Running, RunningRequests
from gateway.api import body, media
from gateway.api.streaming import EventStream, until_sent, while_connected
from gateway.engine.interface import Delta
from gateway.generation.pipeline import Pipeline
from gateway.generation.request import GenerationRequest, Prepared
from gateway.schema.paths import short
from gateway.settings import Settings
from gateway.telemetry import request_log


class Answer(Protocol):
    """Writes one answer in the format of its route."""

    async def let_go(self) -> None:
        """Release the request's images; their memory is given back next."""

    async def whole(self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]) -> Response:
        """Return the answer in one piece."""

    def events(
        self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]
    ) -> AsyncGenerator[bytes]:
        """Yield the answer's server-sent events; one that cannot go on ends with an error event."""


# From a body and the caller's name to what is asked for and who writes the answer: where to do what takes
# long, and how to claim memory for what the body refers to in the storage. Raises RequestError.
Read = Callable[[bytes, str, Aside, Claim], Awaitable[tuple[GenerationRequest, Answer]]]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Answers the requests of all generating routes."""

    settings: Settings
    admission: Admission
    pipeline: Pipeline
    lifecycle: Lifecycle
    running: RunningRequests
    limits: Limits
    memory: MemoryBudgets

    async def respond(self, request: Request, read: Read) -> Response:
        """Return the answer to `request`; `read` parses its body."""
        arrived = time.perf_counter()
        path = request_log.current()
        caller = await self._enter(request)
        async with AsyncExitStack() as held:
            running = held.enter_context(
                self.running.limited(request.state.running, _client_timeout(request))
            )
            # Admit before reading: a request that waits must hold no picture in memory.
            ahead = body.ReadAhead(request.receive)
            path.enter("waiting")
            async with while_connected(ahead.look):
                await held.enter_async_context(self.admission.ticket(caller))
                running.heard = time.perf_counter()
                path.enter("body")
                held_memory = await held.enter_async_context(self._memory_for(request, caller))
            content = await self._content(request, ahead)
            keep(held_memory, COPIES * len(content))
            async with while_connected(request.receive):
                stored = await held.enter_async_context(AsyncExitStack())
                wanted, answer = await read(
                    content, caller.scope, self.pipeline.aside(content, caller), self._claim(caller, stored)
                )
                keep(held_memory, len(content))
                del content
                self.pipeline.check()
                stream = wanted.stream
                path.tell("gen_ai.request.model", short(wanted.model or self.pipeline.model.name))
                if not stream:
                    running.expect_whole_answer()
                path.enter("images")
                prepared = await self.pipeline.prepare(
                    wanted, account := self.account(request, held, running)
                )
                # The request's images in base64 are let go before the answer, which may take its time.
                del wanted
                await answer.let_go()
                held_memory.release()
                await stored.aclose()
                running.heard = inf  # for memory and a seat it may wait
                _note(path, prepared, self.pipeline.model.name)
                path.enter("seat")
                seat = await held.enter_async_context(AsyncExitStack())
                priority = await self._seat(caller, prepared, held, seat)
                traced = path.trace_headers or None
                jobs = [replace(job, priority=priority, trace_headers=traced) for job in prepared.jobs]
                running.heard = time.perf_counter()
                path.enter("first_token")
                deltas = await held.enter_async_context(aclosing(self.pipeline.run(jobs, arrived, running)))
                # Until the first delta is there, an error still has an HTTP status.
                first = await anext(deltas)
                path.enter("answer")
                if not stream:
                    response = await answer.whole(prepared, first, deltas)
                    account.foresee(running.tokens)
                    response.headers.update(prepared.notices | {"server-timing": path.server_timing})
                    await seat.aclose()
                    running.heard = inf  # from here on it waits for its client alone
                    return until_sent(response, held, self.settings.send_timeout)
            events = answer.events(prepared, first, deltas)
            return EventStream(events, held.pop_all(), self.settings.send_timeout, prepared.notices)

    async def compute(
        self, request: Request, answer: Callable[[bytes, Caller, Claim], Awaitable[Response]]
    ) -> Response:
        """Return what `answer` makes of the request's body and its caller, without the engine.

        It claims memory for what it reads from the storage, and for a large answer.
        """
        caller = await self._enter(request)
        async with AsyncExitStack() as held:
            ahead = body.ReadAhead(request.receive)
            async with while_connected(ahead.look):
                await held.enter_async_context(self.admission.ticket(caller))
                await held.enter_async_context(self._memory_for(request, caller))
            content = await self._content(request, ahead)
            response = await answer(content, caller, self._claim(caller, held))
            return until_sent(response, held, self.settings.send_timeout)

    async def _seat(
        self, caller: Caller, prepared: Prepared, held: AsyncExitStack, seat: AsyncExitStack
    ) -> int:
        """Have `held` hold memory for log probabilities and `seat` the engine's; return the priority."""
        numbers = prepared.scored_tokens, prepared.log_probabilities
        await held.enter_async_context(self.memory.log_probabilities(caller, *numbers))
        expected = self.pipeline.expected_tokens(prepared)
        return await seat.enter_async_context(self.admission.seats(caller, prepared.choices, expected))

    def _claim(self, caller: Caller, held: AsyncExitStack) -> Claim:
        """Return what takes memory for bytes from the storage, which `held` gives back."""

        async def claim(size: int) -> None:
            await held.enter_async_context(self.memory.stored(caller, size))

        return claim

    def account(self, request: Request, held: AsyncExitStack, running: Running | None = None) -> Account:
        """Return what the request's tokens and images count against; closing `held` settles it.

        What `running` has generated by then is its answer.
        """
        account = Account(request.state.caller, self.limits, request.state.headers)

        async def settle() -> None:
            await account.settle(running.tokens if running else 0)

        held.push_async_callback(settle)
        return account

    def _memory_for(self, request: Request, caller: Caller) -> AbstractAsyncContextManager[Permit]:
        return self.memory.body(caller, body.announced(request.headers))

    async def _enter(self, request: Request) -> Caller:
        """Check what can be checked before the body is read, and return the caller."""
        self.lifecycle.check()
        media.check_json(request.headers)
        caller: Caller = request.state.caller
        request.state.headers = await self.limits.request(caller)
        return caller

    async def _content(self, request: Request, ahead: body.ReadAhead) -> bytes:
        return await body.read(request.headers, ahead.receive, self.settings)


def _client_timeout(request: Request) -> float:
    """Return how many seconds OpenAI's clients say that they wait for an answer's next bytes."""
    told = request.headers.get("x-stainless-read-timeout", "")
    try:
        seconds = float(told)
    except ValueError:
        return inf
    return seconds if seconds > 0 else inf


def caller_of(request: Request) -> str:
    """Return the hash that names the request's caller in caches and in the storage."""
    caller: Caller = request.state.caller
    return caller.scope


def _note(path: request_log.RequestLog, prepared: Prepared, model: str) -> None:
    """Have the request's line in the log and its span tell what it asks for."""
    path.facts = _facts(prepared, model)
    if path.span is not None:
        path.span.set_attributes(_asked(prepared))


def _asked(prepared: Prepared) -> dict[str, Any]:
    """Return what the request's span says of it, by OpenTelemetry's names: numbers, no content."""
    sampling = prepared.job.sampling
    names = ("max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed")
    said = {f"gen_ai.request.{name}": getattr(sampling, name) for name in names}
    said |= {
        "gen_ai.request.choice.count": prepared.choices,
        "gen_ai.request.stream": prepared.job.stream,
        "gen_ai.output.type": "text",
        "gateway.images": len(prepared.job.pictures),
    }
    return {name: value for name, value in said.items() if value is not None}


def _facts(prepared: Prepared, model: str) -> dict[str, Any]:
    """Return what a request's line in the log says beside its status: sizes, no content."""
    job = prepared.job
    facts = {"id": job.id, "model": model, "stream": job.stream, "images": len(job.pictures)}
    dropped = {"dropped_images": prepared.dropped_images, "dropped_tools": prepared.dropped_tools}
    return facts | {name: count for name, count in dropped.items() if count}
