"""How the CPU time of something grows with its size, on machines that do other work as well."""

import gc
import time
from collections.abc import Awaitable, Callable

ROUNDS = 8
SLACK = 0.02  # seconds


async def assert_linear(work: Callable[[int], Awaitable[object]], size: int, *, times: int = 4) -> None:
    """Assert that `work` of `times` the size takes about `times` the CPU time.

    Other processes slow single runs down, so the best of up to ROUNDS count. Work that grows with the square
    of its size takes `times` squared as long in every round.
    """
    most = times * 1.7
    little = much = float("inf")
    gc.collect()
    gc.disable()  # A collection takes longer than some of this work.
    try:
        for _ in range(ROUNDS):
            little = min(little, await _seconds(work, size))
            much = min(much, await _seconds(work, size * times))
            if much < most * little + SLACK:
                return
    finally:
        gc.enable()
    raise AssertionError(
        f"{times} times the size took {much / little:.1f} times as long: {little:.3f} and {much:.3f} s"
    )


async def _seconds(work: Callable[[int], Awaitable[object]], size: int) -> float:
    began = time.process_time()
    await work(size)
    return time.process_time() - began
