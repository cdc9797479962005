"""A fair thread pool: a caller's flood delays only that caller."""

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
    """Runs work in a thread, or inline if it is cheap."""

    async def __call__(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns."""


async def at_once(work: Callable[[], _T]) -> _T:
    """Run cheap `work` inline."""
    return work()


class FairThreadPool:
    """Fair thread pool: the caller with the fewest running jobs goes next.

    It has `threads` threads, which start with the first job; each runs `start` first.
    """

    def __init__(
        self, name: str, threads: int, settings: Settings, start: Callable[[], None] | None = None
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, name, initializer=start)
        self._shares = places(threads, settings)

    async def run(self, caller: Caller, work: Callable[[], _T]) -> _T:
        """Return the result of `work`, run when it is the turn of `caller`. Raises Overloaded."""
        async with self._shares.hold(caller):
            return await _to_the_end(self._threads, work)

    async def close(self) -> None:
        """Wait for running jobs and end the threads."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def places(number: int, settings: Settings) -> FairSemaphore:
    """Return `number` permits for work; a request may wait for one as long as its answer may take."""
    return FairSemaphore(
        number,
        reserve=0,
        max_waiting=settings.max_running * settings.max_images,
        max_wait=settings.request_timeout,
    )


async def _to_the_end(threads: Executor, work: Callable[[], _T]) -> _T:
    # A thread can't be interrupted: if cancelled, keep what the work needs until it ends.
    future = threads.submit(copy_context().run, work)
    done = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if not future.cancel():
            await asyncio.wait({done})
            done.exception()  # marks it as retrieved; no one awaits it any more
        raise
