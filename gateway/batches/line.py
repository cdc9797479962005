"""Answers one line of a batch like a request over HTTP, and formats it as a line of the output file."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import orjson
import structlog

from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.answering.answer import Answering, Asked, Read
from gateway.answering.context import RequestContext
from gateway.answering.deadlines import Running
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
from gateway.schema.batches import InputLine, result_line
from gateway.settings import Settings
from gateway.storage.batches import Batches, Owned, Used, Waiting
from gateway.telemetry.request_log import RequestLog

PRIORITY: Final = 1_000_000  # after every live request
ATTEMPTS: Final = 3  # at a line on which the engine fails, or during which the engine or the gateway dies
POISON: Final = f"the gateway or its engine died {ATTEMPTS} times while answering this line"
RETRY_AFTER: Final = 1.0  # seconds until a line that could not be served is tried again
GENERATING: Final = ("first_token", "answer")  # stages in which the line is in the engine

logger = structlog.get_logger()


Readers = Mapping[str, Read]  # by endpoint; the same as those of the HTTP routes


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line's result, as a line of the output file; `used` is None if the line failed."""

    json: bytes
    used: Used | None


class Lines:
    """Answers lines, within the memory budgets.

    Each try is counted in the storage before it begins, so that a line that kills the process is not tried at
    every start.
    """

    def __init__(
        self,
        batches: Batches,
        readers: Readers,
        answering: Answering,
        settings: Settings,
    ) -> None:
        self._batches = batches
        self._readers = readers
        self._answering = answering
        self._timeout = settings.request_timeout
        self._counted: set[tuple[str, int]] = set()  # lines whose last try is counted but was not their fault

    async def reserve_memory(self, owned: Owned, waiting: Waiting, held: AsyncExitStack) -> None:
        """Reserve memory for a line until `held` is closed, however long the wait."""
        while True:
            try:
                await held.enter_async_context(self._answering.memory.stored(caller_of(owned), waiting.bytes))
            except Overloaded:
                await asyncio.sleep(RETRY_AFTER)
            else:
                return

    async def answer(self, owned: Owned, waiting: Waiting) -> Outcome | None:
        """Return the outcome, however long it takes: while the gateway cannot serve, the line waits.

        Returns None if the line is not to be answered any more.
        """
        line = await self._batches.read_line(owned.batch.id, waiting.number)
        while line is not None and (tries := await self._count(owned, waiting)):
            if tries > ATTEMPTS:
                return _failed(line, PoisonRequest(POISON))
            log = RequestLog()
            try:
                return await self._outcome(owned, line, log)
            except asyncio.CancelledError:
                await asyncio.shield(self.uncount_try(owned, waiting))
                raise
            except GatewayError as error:
                # A line that kills the engine again and again must not keep it from other requests.
                served = log.stage in GENERATING or not isinstance(error, Unavailable)
                if served and tries >= ATTEMPTS:
                    return _failed(line, error)
                if not served:
                    await self.uncount_try(owned, waiting)
                if isinstance(error, Unavailable):
                    await asyncio.sleep(RETRY_AFTER)
        return None

    async def _outcome(self, owned: Owned, line: InputLine, log: RequestLog) -> Outcome:
        """Return the outcome of one try. Raises GatewayError if another try may succeed."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._answered(owned, line, log)
        except TimeoutError:
            raise DeadlineExceeded(f"the answer was not ready within {self._timeout:g} s") from None
        except RequestError as error:
            return _failed(line, error)
        except GatewayError:
            raise
        except Exception:
            logger.exception("batch_line_failed", batch=owned.batch.id, line=line.number)
            return _failed(line, GatewayError("internal error; see the gateway log"))

    async def uncount_try(self, owned: Owned, waiting: Waiting) -> None:
        """Do not count the line's last try: it failed for a reason other than the line."""
        try:
            await self._batches.count_try(owned.batch.id, waiting.number, -1)
        except (StorageFull, StorageUnavailable):
            self._counted.add((owned.batch.id, waiting.number))

    async def _count(self, owned: Owned, waiting: Waiting) -> int:
        """Count a try; return the number of tries, or 0 if the line is not to be answered any more."""
        name = owned.batch.id, waiting.number
        tries = await self._batches.count_try(*name, 0 if name in self._counted else 1)
        self._counted.discard(name)
        return tries

    async def _answered(self, owned: Owned, line: InputLine, log: RequestLog) -> Outcome:
        context = RequestContext(caller_of(owned), Running(), log, PRIORITY)
        async with context.permits:
            answer = await self._answering.answer(context, await self._asked(owned, line, context))
            body = await answer.json()
        used = answer.usage
        cached = used.prompt_tokens_details.cached_tokens
        return Outcome(
            result_line(_id(), line.custom_id, status=200, body=body),
            Used(used.prompt_tokens, cached, used.completion_tokens),
        )

    async def _asked(self, owned: Owned, line: InputLine, context: RequestContext) -> Asked[Any]:
        read = self._readers[owned.batch.endpoint]
        asked = await self._answering.read(context, line.request, read)
        if asked.request.stream:
            raise InvalidValue("stream: an answer in a batch cannot be streamed", param="stream")
        return asked


def caller_of(owned: Owned) -> Caller:
    """Return the caller whose memory permits a batch takes."""
    return Caller(f"batches of {owned.caller}", owned.caller, CallerClass())


def _failed(line: InputLine, error: GatewayError) -> Outcome:
    body = orjson.dumps({"error": error.error_object})
    return Outcome(result_line(_id(), line.custom_id, status=error.status, body=body), None)


def _id() -> str:
    return f"batch_req_{uuid4().hex}"
