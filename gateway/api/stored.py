"""Answers with what is stored: in memory that is counted, and given back once its client has it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fastapi import Request, Response

from gateway.access.memory_budgets import MemoryBudgets
from gateway.api.exchange import context_of
from gateway.api.streaming import Pieces, until_sent


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """Sends what is stored. Raises Overloaded where there is no memory for it in time."""

    memory: MemoryBudgets
    send_timeout: float

    async def full(self, request: Request, size: int, make: Callable[[], Awaitable[Response]]) -> Response:
        """Return the answer that `make` makes of at most `size` stored bytes."""
        async with AsyncExitStack() as held:
            await held.enter_async_context(self.memory.stored(context_of(request).caller, size))
            return until_sent(await make(), held, self.send_timeout)

    async def pieces(
        self, request: Request, size: int, pieces: AsyncGenerator[bytes], headers: Mapping[str, str]
    ) -> Response:
        """Return an answer of `pieces`, each of at most `size` bytes."""
        async with AsyncExitStack() as held:
            await held.enter_async_context(self.memory.stored(context_of(request).caller, size))
            return Pieces(pieces, held.pop_all(), self.send_timeout, headers)
