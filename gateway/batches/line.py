"""One line of a batch: answered like the same request over HTTP, and written as a line of a file."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Final, Protocol
from uuid import uuid4

import orjson
import structlog

from gateway.access.callers import Caller
from gateway.access.fair_threads import Aside
from gateway.access.keys import CallerClass
from gateway.access.limits import Account
from gateway.access.memory_budgets import Claim, MemoryBudgets
from gateway.access.running import Running
from gateway.engine.interface import Delta
from gateway.errors import (
    DeadlineExceeded,
    GatewayError,
    InvalidValue,
    Overloaded,
    PoisonRequest,
    RequestError,
    StorageFull,
    StorageUnavailable,
    Unavailable,
)
from gateway.generation.pipeline import Pipeline
from gateway.generation.request import GenerationRequest, Prepared
from gateway.schema.batches import InputLine, result_line
from gateway.settings import Settings
from gateway.storage.batches import Batches, Owned, Used, Waiting

PRIORITY: Final = 1_000_000  # after every live request
ATTEMPTS: Final = 3  # at a line on which the engine fails, or with which it or the gateway dies
POISON: Final = f"the gateway or its engine ended {ATTEMPTS} times while this line was answered"
AGAIN: Final = 1.0  # seconds until a line is tried again that could not be served

log = structlog.get_logger()


class Told(Protocol):
    """A response on a socket."""

    body: bytes | memoryview


class Answer(Protocol):
    """Writes a whole answer in the words of an endpoint."""

    async def let_go(self) -> None:
        """Release the request's images."""

    async def whole(self, prepared: Prepared, first: Delta, deltas: AsyncGenerator[Delta]) -> Told:
        """Return the answer."""


# What reads an endpoint's requests: those that come over the socket too. From a body, the caller's name,
# where to do what takes long, and how to claim memory for what it refers to in the storage.
Read = Callable[[bytes, str, Aside, Claim], Awaitable[tuple[GenerationRequest, Answer]]]
Readers = Mapping[str, Read]  # by endpoint


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line's result, as a line of a file; `used` is None where it has failed."""

    json: bytes
    used: Used | None


class Lines:
    """Answers lines, in memory that is counted.

    Every try is counted in the storage before it begins: a line with which the process ends must not end it
    at every start.
    """

    def __init__(
        self,
        batches: Batches,
        readers: Readers,
        pipeline: Pipeline,
        memory: MemoryBudgets,
        settings: Settings,
    ) -> None:
        self._batches = batches
        self._readers = readers
        self._pipeline = pipeline
        self._memory = memory
        self._timeout = settings.request_timeout
        self._counted: set[tuple[str, int]] = set()  # lines whose last try is counted and did no harm

    async def room(self, owned: Owned, waiting: Waiting, held: AsyncExitStack) -> None:
        """Have `held` hold memory for a line, however long it waits for that."""
        while True:
            try:
                await held.enter_async_context(self._memory.stored(caller_of(owned), waiting.bytes))
            except Overloaded:
                await asyncio.sleep(AGAIN)
            else:
                return

    async def answer(self, owned: Owned, waiting: Waiting) -> Outcome | None:
        """Return the outcome, however long that takes: while nothing can be served, the line waits.

        None is for a line that is no longer to be answered.
        """
        line = await self._batches.read_line(owned.batch.id, waiting.number)
        while line is not None and (tries := await self._count(owned, waiting)):
            if tries > ATTEMPTS:
                return _failed(line, PoisonRequest(POISON))
            begun = asyncio.Event()
            try:
                return await self._outcome(owned, line, begun)
            except asyncio.CancelledError:
                await asyncio.shield(self.spare(owned, waiting))
                raise
            except GatewayError as error:
                # A line with which the engine dies again and again must not take it away from everybody.
                served = begun.is_set() or not isinstance(error, Unavailable)
                if served and tries >= ATTEMPTS:
                    return _failed(line, error)
                if not served:
                    await self.spare(owned, waiting)
                if isinstance(error, Unavailable):
                    await asyncio.sleep(AGAIN)
        return None

    async def _outcome(self, owned: Owned, line: InputLine, begun: asyncio.Event) -> Outcome:
        """Return the outcome of one try. Raises GatewayError where another may end better."""
        try:
            body = await self._body(owned, line, begun)
        except RequestError as error:
            return _failed(line, error)
        except GatewayError:
            raise
        except Exception:
            log.exception("batch_line_failed", batch=owned.batch.id, line=line.number)
            return _failed(line, GatewayError("an error of the gateway's own; it is in its log"))
        return Outcome(result_line(_id(), line.custom_id, status=200, body=body), _used(body))

    async def spare(self, owned: Owned, waiting: Waiting) -> None:
        """Take back that the line's last try was counted: how it ended was not the line's fault."""
        try:
            await self._batches.count_try(owned.batch.id, waiting.number, -1)
        except (StorageFull, StorageUnavailable):
            self._counted.add((owned.batch.id, waiting.number))

    async def _count(self, owned: Owned, waiting: Waiting) -> int:
        """Count a try; return how many there have been, 0 if the line is no longer to be answered."""
        name = owned.batch.id, waiting.number
        tries = await self._batches.count_try(*name, 0 if name in self._counted else 1)
        self._counted.discard(name)
        return tries

    async def _body(self, owned: Owned, line: InputLine, begun: asyncio.Event) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                async with AsyncExitStack() as held:
                    return await self._answered(owned, line, begun, held)
        except TimeoutError:
            raise DeadlineExceeded(f"the answer was not ready within {self._timeout:g} s") from None

    async def _answered(
        self, owned: Owned, line: InputLine, begun: asyncio.Event, held: AsyncExitStack
    ) -> bytes:
        caller = caller_of(owned)
        stored = await held.enter_async_context(AsyncExitStack())

        async def claim(size: int) -> None:
            await stored.enter_async_context(self._memory.stored(caller, size))

        aside = self._pipeline.aside(line.request, caller)
        read = self._readers[owned.batch.endpoint]
        wanted, answer = await read(line.request, owned.caller, aside, claim)
        if wanted.stream:
            raise InvalidValue("stream: an answer in a batch cannot be streamed", param="stream")
        # No limit counts: a batch has the room that live requests leave.
        prepared = await self._pipeline.prepare(wanted, Account(caller))
        del wanted
        await answer.let_go()
        await stored.aclose()
        numbers = prepared.scored_tokens, prepared.log_probabilities
        await held.enter_async_context(self._memory.log_probabilities(caller, *numbers))
        jobs = [replace(job, priority=PRIORITY) for job in prepared.jobs]
        begun.set()
        async with aclosing(self._pipeline.run(jobs, time.perf_counter(), Running())) as deltas:
            first = await anext(deltas)
            return bytes((await answer.whole(prepared, first, deltas)).body)


def caller_of(owned: Owned) -> Caller:
    """Return whose share of the memory a batch takes."""
    return Caller(f"batches of {owned.caller}", owned.caller, CallerClass())


def _failed(line: InputLine, error: GatewayError) -> Outcome:
    body = orjson.dumps({"error": error.told})
    return Outcome(result_line(_id(), line.custom_id, status=error.status, body=body), None)


def _used(body: bytes) -> Used:
    """Return the tokens that an answer says it used; chats and responses have different names for them."""
    usage = orjson.loads(body)["usage"]
    if "prompt_tokens" in usage:
        details = usage.get("prompt_tokens_details") or {}
        return Used(usage["prompt_tokens"], details.get("cached_tokens", 0), usage["completion_tokens"])
    return Used(usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"], usage["output_tokens"])


def _id() -> str:
    return f"batch_req_{uuid4().hex}"
