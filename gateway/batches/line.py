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
from gateway.access.keys import CallerClass
from gateway.access.limits import Account
from gateway.access.memory import Claim, Memory
from gateway.access.running import Running
from gateway.access.shares import Holding
from gateway.access.turns import Aside
from gateway.engine.interface import Delta
from gateway.errors import (
    DeadlineExceeded,
    GatewayError,
    InvalidValue,
    Overloaded,
    RequestError,
    Unavailable,
)
from gateway.generation.pipeline import Pipeline
from gateway.generation.request import GenerationRequest, Prepared
from gateway.schema.batches import InputLine, result_line
from gateway.settings import Settings
from gateway.storage.batches import Owned, Used

PRIORITY: Final = 1_000_000  # after every live request
ATTEMPTS: Final = 3  # at a line on which the engine fails, or with which it dies
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
    """Answers lines, in memory that is counted."""

    def __init__(self, readers: Readers, pipeline: Pipeline, memory: Memory, settings: Settings) -> None:
        self._readers = readers
        self._pipeline = pipeline
        self._memory = memory
        self._timeout = settings.request_timeout
        self._longest = settings.body_max_bytes

    async def room(self, owned: Owned, held: AsyncExitStack) -> Holding:
        """Have `held` hold memory for the longest line, however long it waits for that."""
        while True:
            try:
                return await held.enter_async_context(self._memory.stored(_caller(owned), self._longest))
            except Overloaded:
                await asyncio.sleep(AGAIN)

    async def answer(self, owned: Owned, line: InputLine) -> Outcome:
        """Return the outcome, however long that takes: while nothing can be served, the line waits."""
        attempts = 0
        while True:
            begun = asyncio.Event()
            try:
                body = await self._body(owned, line, begun)
            except Unavailable as error:
                # A line with which the engine dies again and again must not take it away from everybody.
                attempts += begun.is_set()
                if attempts >= ATTEMPTS:
                    return _failed(line, error)
                await asyncio.sleep(AGAIN)
            except RequestError as error:
                return _failed(line, error)
            except GatewayError as error:
                attempts += 1
                if attempts >= ATTEMPTS:
                    return _failed(line, error)
            except Exception:
                log.exception("batch_line_failed", batch=owned.batch.id, line=line.number)
                return _failed(line, GatewayError("an error of the gateway's own; it is in its log"))
            else:
                told = result_line(_id(), line.custom_id, status=200, body=body)
                return Outcome(told, _used(body))

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
        caller = _caller(owned)
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


def _caller(owned: Owned) -> Caller:
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
