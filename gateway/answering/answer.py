"""The one path of a request that generates, over HTTP or in a batch: prepare → admit → run → chunks.

It knows no HTTP: a route reads the body before it, and writes the chunks in its wire format after it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from gateway.access.admission import Admission
from gateway.access.fair_threads import Aside
from gateway.access.limits import Account, Limits
from gateway.access.memory_budgets import MemoryBudgets, ReserveMemory
from gateway.answering.context import RequestContext
from gateway.answering.prepare import Pipeline
from gateway.engine.interface import Delta, Job
from gateway.generation.request import GenerationRequest, Prepared
from gateway.schema.chat_answer import Usage
from gateway.schema.paths import short
from gateway.telemetry.request_log import RequestLog

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)


class Reply(Protocol[C_co]):
    """Makes an answer's chunks from the engine's deltas."""

    def chunk(self, delta: Delta) -> C_co | None:
        """Return what `delta` adds to the answer, None if nothing can be said yet."""

    @property
    def usage(self) -> Usage:
        """Return the tokens used so far."""


class Wire(Protocol[C]):
    """Writes one answer in the format of its endpoint."""

    def reply(self, prepared: Prepared) -> Reply[C]:
        """Return what makes the answer's chunks."""

    async def json(self, answer: "Answer[C]") -> bytes:
        """Return the answer as one JSON document."""

    def events(self, answer: "Answer[C]") -> AsyncGenerator[bytes]:
        """Yield the answer as server-sent events; if it fails, the last is an error event."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[C]):
    """A parsed request and the format of its answer.

    `store` stores the request's own items as soon as they are known to be valid.
    """

    request: GenerationRequest
    wire: Wire[C]
    store: Callable[[], Awaitable[None]] | None = None


# Parses a request's body: in a thread if that takes long, with memory reserved for what the body refers to in
# the storage. Raises RequestError.
Read = Callable[[bytes, RequestContext, Aside, ReserveMemory], Awaitable[Asked[Any]]]


class Answer(Generic[C]):
    """One answer: an iterator over its chunks. Its permits are held by `context.permits`."""

    def __init__(
        self,
        context: RequestContext,
        prepared: Prepared,
        wire: Wire[C],
        account: Account,
        permits: AsyncExitStack,
    ) -> None:
        self.context = context
        self.prepared = prepared
        self._wire = wire
        self._reply = wire.reply(prepared)
        self._account = account
        self._engine_permits = permits

    async def begin(self, deltas: AsyncGenerator[Delta]) -> None:
        """Wait for the first delta: until it is there, an error has an HTTP status."""
        self._deltas = deltas
        self._first = self._reply.chunk(await anext(deltas))

    @property
    def stream(self) -> bool:
        return self.prepared.job.stream

    @property
    def usage(self) -> Usage:
        """Return the tokens used so far."""
        return self._reply.usage

    def take_first(self) -> C | None:
        """Return the chunk of the first delta, if it has one and was not taken yet."""
        first, self._first = self._first, None
        return first

    def __aiter__(self) -> "Answer[C]":
        return self

    async def __anext__(self) -> C:
        chunk = self.take_first()
        while chunk is None:
            chunk = self._reply.chunk(await anext(self._deltas))
        return chunk

    def events(self) -> AsyncGenerator[bytes]:
        """Yield the answer as server-sent events."""
        return self._wire.events(self)

    async def json(self) -> bytes:
        """Return the complete answer as JSON; from then on it waits only for its client."""
        body = await self._wire.json(self)
        self._account.foresee(self.context.running.tokens)
        await self._engine_permits.aclose()
        self.context.running.pause()
        return body


@dataclass(frozen=True, slots=True)
class Answering:
    """Answers requests with the engine."""

    pipeline: Pipeline
    admission: Admission
    limits: Limits
    memory: MemoryBudgets

    async def read(self, context: RequestContext, body: bytes, read: Read) -> Asked[Any]:
        """Return what `body` asks for. Raises RequestError."""
        return await read(
            body, context, self.pipeline.aside(body, context.caller), self.reserve_memory(context)
        )

    async def answer(self, context: RequestContext, asked: Asked[C]) -> Answer[C]:
        """Return the answer to `asked` once its first delta is there. Raises GatewayError."""
        account = self.account(context)
        prepared = await self._prepare(context, asked, account)
        wire = asked.wire
        del asked  # The request's images in base64 are released before the answer, which may take its time.
        await context.input_permits.aclose()
        context.running.pause()  # It may wait for memory and for the engine.
        engine_permits, jobs = await self._admit(context, prepared)
        context.running.resume()
        context.log.enter("first_token")
        deltas = self.pipeline.run(jobs, context.running, context.log)
        await context.permits.enter_async_context(aclosing(deltas))
        answer = Answer(context, prepared, wire, account, engine_permits)
        await answer.begin(deltas)
        context.log.enter("answer")
        return answer

    def account(self, context: RequestContext) -> Account:
        """Return what the request's tokens and images count against, settled when the request ends.

        Nothing counts of a batch's line: it runs on what live requests leave.
        """
        limits = self.limits if context.priority is None else None
        account = Account(context.caller, limits, context.limit_headers)

        async def settle() -> None:
            await account.settle(context.running.tokens)

        context.permits.push_async_callback(settle)
        return account

    def reserve_memory(self, context: RequestContext) -> ReserveMemory:
        """Return what reserves memory for stored bytes until the request is prepared."""

        async def reserve(size: int) -> None:
            await context.input_permits.enter_async_context(self.memory.stored(context.caller, size))

        return reserve

    async def _prepare(self, context: RequestContext, asked: Asked[C], account: Account) -> Prepared:
        """Return the jobs of a valid request whose images are loaded."""
        request = asked.request
        self.pipeline.check()
        context.log.set_attribute("gen_ai.request.model", short(request.model or self.pipeline.model.name))
        if not request.stream:
            context.running.expect_full_answer()
        context.log.enter("images")
        prepared = await self.pipeline.prepare(request, account)
        if asked.store is not None:
            await asked.store()
        _note(context.log, prepared, self.pipeline.model.name)
        return prepared

    async def _admit(self, context: RequestContext, prepared: Prepared) -> tuple[AsyncExitStack, list[Job]]:
        """Wait for memory for log probabilities and for the engine; return its permits and the jobs."""
        context.log.enter("engine")
        engine_permits = await context.permits.enter_async_context(AsyncExitStack())
        numbers = prepared.scored_tokens, prepared.log_probabilities
        await context.permits.enter_async_context(self.memory.log_probabilities(context.caller, *numbers))
        priority = context.priority
        if priority is None:
            expected = self.pipeline.expected_tokens(prepared)
            permits = self.admission.engine_permits(context.caller, prepared.choices, expected)
            priority = await engine_permits.enter_async_context(permits)
        traced = context.log.trace_headers or None
        return engine_permits, [
            replace(job, priority=priority, trace_headers=traced) for job in prepared.jobs
        ]


def _note(log: RequestLog, prepared: Prepared, model: str) -> None:
    """Add what the request asks for to its line in the log and to its span."""
    log.facts = _facts(prepared, model)
    if log.span is not None:
        log.span.set_attributes(_attributes(prepared))


def _attributes(prepared: Prepared) -> dict[str, Any]:
    """Return the span's attributes, by OpenTelemetry's names: numbers, no content."""
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
    """Return what the log line adds to the status: sizes, no content."""
    job = prepared.job
    facts = {"id": job.id, "model": model, "stream": job.stream, "images": len(job.pictures)}
    dropped = {"dropped_images": prepared.dropped_images, "dropped_tools": prepared.dropped_tools}
    return facts | {name: count for name, count in dropped.items() if count}
