"""Work in threads comes in turn between callers, and is not forgotten when its caller leaves."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.access.fair_threads import FairThreadPool
from gateway.settings import Settings
from tests.access.test_fair_semaphore import ANN, EVE
from tests.servers import until


@pytest.fixture
async def one() -> AsyncIterator[FairThreadPool]:
    """Yield turns in one thread."""
    turns = FairThreadPool("test", 1, Settings())
    yield turns
    await turns.close()


def noting(done: list[str], name: str, gate: threading.Event | None = None) -> Callable[[], None]:
    def work() -> None:
        if gate is not None:
            gate.wait(10)
        done.append(name)

    return work


async def test_a_callers_flood_waits_behind_itself(one: FairThreadPool) -> None:
    done: list[str] = []
    gate = threading.Event()
    flood = [asyncio.create_task(one.run(EVE, noting(done, "eve", gate))) for _ in range(20)]
    await asyncio.sleep(0)
    ann = asyncio.create_task(one.run(ANN, noting(done, "ann")))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*flood, ann)
    assert done == ["eve", "ann", *["eve"] * 19]


async def test_who_leaves_keeps_the_turn_until_the_thread_is_through(one: FairThreadPool) -> None:
    done: list[str] = []
    gate, entered = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        gate.wait(10)
        done.append("eve")

    leaves = asyncio.create_task(one.run(EVE, work))
    await until(entered.is_set)
    stays = asyncio.create_task(one.run(ANN, noting(done, "ann")))
    leaves.cancel()
    await asyncio.sleep(0.05)
    assert done == []
    gate.set()
    await stays
    assert done == ["eve", "ann"]
    assert leaves.cancelled()


async def test_what_the_work_raises_is_raised(one: FairThreadPool) -> None:
    with pytest.raises(ZeroDivisionError):
        await one.run(ANN, lambda: 1 // 0)
    assert await one.run(ANN, lambda: 7) == 7


async def test_what_the_work_of_one_who_left_raises_is_not_logged(
    one: FairThreadPool, caplog: pytest.LogCaptureFixture
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        gate.wait(10)
        raise ValueError

    leaves = asyncio.create_task(one.run(EVE, work))
    await until(entered.is_set)
    leaves.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait({leaves})
    del leaves
    gc.collect()
    assert caplog.text == ""
