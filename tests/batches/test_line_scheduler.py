"""Which line starts next, and when one that waits no longer needs to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import Gauge

from gateway.batches import gate as gates
from gateway.batches.line_scheduler import LinePermit, LineScheduler

GO = asyncio.Event()  # never set: nobody stops


class Traffic:
    """Live requests: `quiet` is for how long there have been none."""

    seconds = 1000.0

    def quiet(self, now: float) -> float:
        assert now > 0
        return self.seconds


@pytest.fixture
def traffic() -> Any:
    return Traffic()


@pytest.fixture
async def gate(traffic: Any) -> AsyncIterator[LineScheduler]:
    made = LineScheduler(traffic, 2, lambda: False, Gauge("lines", "", registry=None))
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def steps() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def order(gate: LineScheduler, *callers: str) -> list[str]:
    """Return the order in which lines of `callers`, who ask in this order, get the one place there is."""
    served: list[str] = []

    async def answer(caller: str) -> None:
        place = await gate.take(caller, GO)
        assert place is not None
        served.append(caller)
        await asyncio.sleep(0)
        place.release()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(answer(caller))
    return served


async def test_callers_take_turns_whoever_asked_most(gate: LineScheduler) -> None:
    gate._most = 1
    assert await order(gate, *["eve"] * 8, "ann", "ann") == ["eve", "ann", "eve", "ann", *["eve"] * 6]
    assert gate._served == {}


async def test_the_caller_with_fewest_running_lines_comes_next(gate: LineScheduler) -> None:
    held = [await gate.take("eve", GO) for _ in range(2)]
    assert None not in held
    waiting = [asyncio.create_task(gate.take(caller, GO)) for caller in ("eve", "eve", "ann")]
    await steps()
    assert [task.done() for task in waiting] == [False] * 3
    release(held[0])
    assert await waiting[2] is not None
    for task in waiting[:2]:
        task.cancel()


def release(place: LinePermit | None) -> None:
    assert place is not None
    place.release()


async def test_a_line_alone_waits_until_no_other_runs_and_keeps_others_out(gate: LineScheduler) -> None:
    other = await gate.take("ann", GO)
    alone = asyncio.create_task(gate.take("eve", GO, alone=True))
    later = asyncio.create_task(gate.take("ann", GO))
    await asyncio.sleep(3 * gates.LOOK_EVERY)
    assert (alone.done(), later.done()) == (False, False)
    release(other)
    place = await alone
    await asyncio.sleep(3 * gates.LOOK_EVERY)
    assert not later.done()
    release(place)
    release(await later)


async def test_under_steady_traffic_one_line_starts_and_those_that_stop_do_not_wait(
    gate: LineScheduler, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic.seconds = 0.0
    monkeypatch.setattr(gates, "PATIENCE", 60.0)
    stop = asyncio.Event()
    waiting = [asyncio.create_task(gate.take("eve", stop)) for _ in range(3)]
    await steps()
    stop.set()
    assert await asyncio.gather(*waiting) == [None] * 3
    monkeypatch.setattr(gates, "PATIENCE", 0.0)
    assert await gate.take("eve", GO) is not None
    assert gate._waiting == []


async def test_a_place_granted_to_one_that_is_cancelled_is_not_lost(gate: LineScheduler) -> None:
    tasks = [asyncio.create_task(gate.take("eve", GO)) for _ in range(2)]
    await asyncio.sleep(0)
    gate._start(gate._waiting[0])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (gate._running.total(), gate._waiting, gate._served) == (0, [], {})
