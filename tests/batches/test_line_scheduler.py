"""The scheduler of batch lines: which line starts next, and when a waiting line gives up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import Gauge

from gateway.batches import line_scheduler
from gateway.batches.line_scheduler import LinePermit, LineScheduler

NEVER = asyncio.Event()  # never set: no batch is stopped


class Traffic:
    """Stands for live requests: `quiet` is how long there have been none."""

    seconds = 1000.0

    def quiet(self, now: float) -> float:
        assert now > 0
        return self.seconds


@pytest.fixture
def traffic() -> Any:
    return Traffic()


@pytest.fixture
async def scheduler(traffic: Any) -> AsyncIterator[LineScheduler]:
    made = LineScheduler(traffic, 2, lambda: False, Gauge("lines", "", registry=None))
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def steps() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def order(scheduler: LineScheduler, *callers: str) -> list[str]:
    """Return the order in which lines of `callers`, arriving in this order, get the only permit."""
    served: list[str] = []

    async def answer(caller: str) -> None:
        permit = await scheduler.take(caller, NEVER)
        assert permit is not None
        served.append(caller)
        await asyncio.sleep(0)
        permit.release()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(answer(caller))
    return served


async def test_callers_take_turns_however_many_lines_they_have(scheduler: LineScheduler) -> None:
    scheduler._most = 1
    assert await order(scheduler, *["eve"] * 8, "ann", "ann") == ["eve", "ann", "eve", "ann", *["eve"] * 6]
    assert scheduler._served == {}


async def test_the_caller_with_the_fewest_running_lines_is_next(scheduler: LineScheduler) -> None:
    held = [await scheduler.take("eve", NEVER) for _ in range(2)]
    assert None not in held
    waiting = [asyncio.create_task(scheduler.take(caller, NEVER)) for caller in ("eve", "eve", "ann")]
    await steps()
    assert [task.done() for task in waiting] == [False] * 3
    release(held[0])
    assert await waiting[2] is not None
    for task in waiting[:2]:
        task.cancel()


def release(permit: LinePermit | None) -> None:
    assert permit is not None
    permit.release()


async def test_a_line_that_runs_alone_waits_for_the_others_and_they_for_it(scheduler: LineScheduler) -> None:
    other = await scheduler.take("ann", NEVER)
    alone = asyncio.create_task(scheduler.take("eve", NEVER, alone=True))
    later = asyncio.create_task(scheduler.take("ann", NEVER))
    await asyncio.sleep(3 * line_scheduler.CHECK_EVERY)
    assert (alone.done(), later.done()) == (False, False)
    release(other)
    permit = await alone
    await asyncio.sleep(3 * line_scheduler.CHECK_EVERY)
    assert not later.done()
    release(permit)
    release(await later)


async def test_under_steady_traffic_one_line_starts_and_stopped_ones_do_not_wait(
    scheduler: LineScheduler, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic.seconds = 0.0
    monkeypatch.setattr(line_scheduler, "PATIENCE", 60.0)
    stop = asyncio.Event()
    waiting = [asyncio.create_task(scheduler.take("eve", stop)) for _ in range(3)]
    await steps()
    stop.set()
    assert await asyncio.gather(*waiting) == [None] * 3
    monkeypatch.setattr(line_scheduler, "PATIENCE", 0.0)
    assert await scheduler.take("eve", NEVER) is not None
    assert scheduler._waiting == []


async def test_a_permit_granted_to_a_cancelled_line_is_not_lost(scheduler: LineScheduler) -> None:
    tasks = [asyncio.create_task(scheduler.take("eve", NEVER)) for _ in range(2)]
    await asyncio.sleep(0)
    scheduler._start(scheduler._waiting[0])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (scheduler._running.total(), scheduler._waiting, scheduler._served) == (0, [], {})
