"""The cache of square images, and running work that several requests wait for."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gateway.engine.interface import Picture

_BYTES_PER_PIXEL = 4  # Pillow keeps RGB in four bytes.


class PictureCache:
    """LRU cache of square images by key; `limit` is in bytes of pixels."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self.bytes = 0

    def get(self, key: str) -> Picture | None:
        picture = self._pictures.get(key)
        if picture is not None:
            self._pictures.move_to_end(key)
        return picture

    def put(self, picture: Picture) -> None:
        size = _bytes(picture)
        if size > self._limit or picture.key in self._pictures:
            return
        self._pictures[picture.key] = picture
        self.bytes += size
        while self.bytes > self._limit:
            _, oldest = self._pictures.popitem(last=False)
            self.bytes -= _bytes(oldest)


def _bytes(picture: Picture) -> int:
    return picture.pixels.width * picture.pixels.height * _BYTES_PER_PIXEL


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[Picture]
    waiters: int = 0


class Flights:
    """Running work by key: requests for the same key share one result."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[Picture]] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._flights

    async def join(self, key: str, work: Callable[[], Coroutine[Any, Any, Picture]]) -> Picture:
        """Return or raise the result of `work`, which is started only if none is running for `key`.

        Cancelling one waiter does not affect the others; cancelling the last one cancels the work.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
            self._tasks.add(flight.task)
            flight.task.add_done_callback(self._tasks.discard)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0:
                # A new request must not join work that is being cancelled.
                del self._flights[key]
                flight.task.cancel()

    async def close(self) -> None:
        """Cancel all work and wait until its threads have finished."""
        tasks = list(self._tasks)
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
