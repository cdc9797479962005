"""Tunes glibc's malloc: freed memory is kept while requests run, and returned to the system when idle."""

import asyncio
import ctypes
import gc
from contextlib import suppress

from gateway.answering.deadlines import RunningRequests
from gateway.images.loader import PictureLoader

IDLE = 10.0  # seconds without a request after which freed memory is returned
TRIMS = 3  # times: cancelled work may end later than the last request


def keep_freed() -> None:
    """Make glibc reuse freed memory, rather than return it and allocate it again for every image.

    Each new page costs a page fault, and an image of 4 MB needs thousands of pages. All threads share one
    arena, because malloc_trim leaves up to 64 MB in each of the others. See mallopt(3).
    """
    trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 2**25)  # bytes; the maximum
        mallopt(arena_max, 1)
        mallopt(trim_threshold, 2**28)
        mallopt(top_pad, 2**24)


async def trim_when_idle(running: RunningRequests, loader: PictureLoader) -> None:
    """Return freed memory to the system after IDLE seconds without requests. See malloc_trim(3)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    idle_since, left = asyncio.get_running_loop().time(), 0
    while trim is not None:
        await asyncio.sleep(1)
        now = asyncio.get_running_loop().time()
        if running:
            idle_since, left = now, TRIMS
        elif left and now - idle_since > IDLE:
            idle_since, left = now, left - 1
            loader.rest()
            gc.collect()
            await asyncio.to_thread(trim, 0)
