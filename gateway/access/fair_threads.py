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
        self._permits = worker_permits(threads, settings)

    async def run(self, caller: Caller, work: Callable[[], _T]) -> _T:
        """Run `work` when it is the turn of `caller` and return its result. Raises Overloaded."""
        async with self._permits.hold(caller):
            return await _run_to_the_end(self._threads, work)

    async def close(self) -> None:
        """Wait for running jobs, then end the threads."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def worker_permits(number: int, settings: Settings) -> FairSemaphore:
    """Return a semaphore of `number` workers; a request waits for one as long as its answer may take."""
    return FairSemaphore(
        number,
        reserve=0,
        max_waiting=settings.max_running * settings.max_images,
        max_wait=settings.request_timeout,
    )


async def _run_to_the_end(threads: Executor, work: Callable[[], _T]) -> _T:
    # A thread cannot be interrupted: if cancelled, keep what the work needs until it ends.
    future = threads.submit(copy_context().run, work)
    done = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if not future.cancel():
            await asyncio.wait({done})
            done.exception()  # marks it as retrieved: nothing awaits it any more
        raise
