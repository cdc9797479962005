"""Work in threads, in turn between callers: a caller's flood delays only that caller."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from typing import Protocol, TypeVar

from gateway.access.callers import Caller
from gateway.access.fair_semaphore import FairSemaphore
from gateway.settings import Settings

_T = TypeVar("_T")


class Aside(Protocol):
    """Does work where it keeps nobody else waiting, or at once where it is little."""

    async def __call__(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns."""


async def at_once(work: Callable[[], _T]) -> _T:
    """Do `work` here: it is little."""
    return work()


class FairThreadPool:
    """Runs work in `threads` threads; the next is of the caller who has least of it running.

    `start` runs first in each thread. No thread starts before the first work.
    """

    def __init__(
        self, name: str, threads: int, settings: Settings, start: Callable[[], None] | None = None
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, name, initializer=start)
        self._shares = places(threads, settings)

    async def run(self, caller: Caller, work: Callable[[], _T]) -> _T:
        """Return what `work` returns, when it is the turn of `caller`. Raises Overloaded."""
        async with self._shares.hold(caller):
            return await _to_the_end(self._threads, work)

    async def close(self) -> None:
        """Wait for what runs and end the threads."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def places(number: int, settings: Settings) -> FairSemaphore:
    """Return `number` places to work at: whoever holds a ticket may wait, as long as its answer may take."""
    return FairSemaphore(
        number,
        reserve=0,
        max_waiting=settings.max_running * settings.max_images,
        max_wait=settings.request_timeout,
    )


async def _to_the_end(threads: Executor, work: Callable[[], _T]) -> _T:
    # A thread can't be interrupted: when cancelled, hold what the work needs until it is through.
    future = threads.submit(copy_context().run, work)
    done = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if not future.cancel():
            await asyncio.wait({done})
            done.exception()  # nobody waits for it any more
        raise
