"""How the CPU time of something grows with its size, on machines that do other work as well."""

import gc
import inspect
import math
import time
from collections.abc import Callable

ROUNDS = 8
LEAST = 0.03  # seconds of one measurement; shorter work is repeated


async def assert_linear(work: Callable[[int], object], size: int, *, times: int = 8) -> None:
    """Assert that `work` of `times` the size takes about `times` the CPU time.

    Work that grows with the square of its size takes `times` squared as long in every round.
    """
    await assert_ratio(lambda: work(size), lambda: work(size * times), 1.7 * times)


async def assert_ratio(little: Callable[[], object], much: Callable[[], object], most: float) -> None:
    """Assert that `much` takes less than `most` times the CPU time of `little`.

    Either may be a coroutine function. Other processes slow single runs down, so the shortest
    of up to ROUNDS count.
    """
    gc.disable()  # A collection takes longer than some of this work.
    try:
        repeats = math.ceil(LEAST / max(await _seconds(little, 1), LEAST / 1000))
        short = long = float("inf")
        for _ in range(ROUNDS):
            short = min(short, await _seconds(little, repeats))
            long = min(long, await _seconds(much, repeats))
            if long < most * short:
                return
    finally:
        gc.enable()
    raise AssertionError(
        f"{long / short:.1f} times as long ({short:.3f} and {long:.3f} s); the limit is {most:.1f}"
    )


def assert_quick(work: Callable[[], object], most: float) -> None:
    """Assert that `work` takes less than `most` seconds of CPU time in the best of up to ROUNDS."""
    best = math.inf
    for _ in range(ROUNDS):
        began = time.thread_time()
        work()
        best = min(best, time.thread_time() - began)
        if best < most:
            return
    raise AssertionError(f"{best:.3f} s at best; the limit is {most} s")


async def _seconds(work: Callable[[], object], repeats: int) -> float:
    began = time.process_time()
    for _ in range(repeats):
        done = work()
        if inspect.isawaitable(done):
            await done
    return time.process_time() - began
