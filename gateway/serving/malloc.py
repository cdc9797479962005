"""Memory that was freed: kept while requests run, given back to the system when none do."""

import asyncio
import ctypes
import gc
from contextlib import suppress

from gateway.access.deadlines import RunningRequests
from gateway.images.loader import PictureLoader

IDLE = 10.0  # seconds without a request after which freed memory goes back to the system
TRIMS = 3  # times: what had been cancelled may end later than the last request


def keep_freed() -> None:
    """Have glibc use freed memory again, where it would give it back and ask for it with every picture.

    Each new page costs a fault, and a picture of 4 MB passes through thousands of them. All threads share
    one arena: malloc_trim leaves up to 64 MB in each other one. mallopt(3).
    """
    trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 2**25)  # bytes, the most that it takes
        mallopt(arena_max, 1)
        mallopt(trim_threshold, 2**28)
        mallopt(top_pad, 2**24)


async def trim_when_idle(running: RunningRequests, loader: PictureLoader) -> None:
    """Give memory back to the system once nothing has run for a while. malloc_trim(3)."""
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
