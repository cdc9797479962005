"""What an engine's death proves against the jobs that ran, and the order in which jobs run afterwards."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from gateway.engine.interface import Constraint, Job, Sampling
from gateway.engine.poison_detector import PoisonDetector, Trial
from gateway.errors import PoisonRequest
from tests.scripted_engine import ScriptedEngine


def job(name: int) -> Job:
    return Job(str(name), [name], (), Sampling(1))


async def dies(detector: PoisonDetector, names: Sequence[int], proven: Sequence[int] = ()) -> None:
    """Run the jobs `names` on one engine, those in `proven` until their first delta; then it dies."""
    engine = ScriptedEngine()
    trials = []
    for name in [*proven, *(name for name in names if name not in proven)]:
        trial = await detector.enter(job(name))
        detector.begin(trial, engine)
        if name in proven:
            detector.survived(trial)
        trials.append(trial)
    detector.engine_died(engine)
    for trial in trials:
        detector.leave(trial)


async def is_refused(detector: PoisonDetector, name: int) -> bool:
    with suppress(PoisonRequest):
        detector.leave(await detector.enter(job(name)))
        return False
    return True


@pytest.mark.parametrize(
    ("deaths", "refused"),
    [
        # For each death: the jobs that had a delta, and the last one to start.
        ([([], 1)], False),
        ([([], 1), ([], 1)], True),
        ([([2], 1), ([], 1)], True),
        ([([2], 1), ([2], 1)], True),  # with the same job twice
        ([([2], 1), ([1], 3)], False),  # it may have been the other one each time
        ([([2], 1), ([1], 3), ([1], 4), ([1], 5)], False),
        ([([2], 1), ([3], 1)], False),
        ([([2], 1), ([3], 1), ([4], 1)], True),  # the only job without a delta, twice
    ],
)
async def test_a_death_counts_only_with_what_else_ran(
    deaths: list[tuple[list[int], int]], refused: bool
) -> None:
    detector = PoisonDetector()
    for proven, last in deaths:
        await dies(detector, [*proven, last], proven)
    assert await is_refused(detector, 1) is refused


async def test_what_waits_when_an_engine_dies_is_not_suspected() -> None:
    detector = PoisonDetector()
    await dies(detector, [1])
    first = await detector.enter(job(1))
    waiting = asyncio.ensure_future(detector.enter(job(2)))
    await asyncio.sleep(0)
    dead = ScriptedEngine()
    detector.begin(first, dead)
    detector.engine_died(dead)
    detector.leave(first)
    detector.leave(await waiting)
    await dies(detector, [2])
    assert await is_refused(detector, 1)
    assert not await is_refused(detector, 2)


async def test_a_suspect_runs_before_anything_else_begins_and_others_before_the_next_suspect() -> None:
    detector, order = PoisonDetector(), list[int]()
    await dies(detector, [1, 2], [1])
    running = await detector.enter(job(8))  # it came before the suspects did
    trials: dict[int, Trial] = {}

    async def enter(name: int) -> None:
        trials[name] = await detector.enter(job(name))
        order.append(name)

    tasks = [asyncio.create_task(enter(name)) for name in (1, 2, 3, 4)]
    await asyncio.sleep(0)
    assert order == []  # the first waits until nothing is before its first delta
    detector.survived(running)
    await asyncio.sleep(0.01)
    assert order == [1]
    tasks[2].cancel()
    detector.survived(trials[1])
    await asyncio.sleep(0.01)
    assert order == [1, 4]
    detector.leave(trials[4])
    await asyncio.sleep(0.01)
    assert order == [1, 4, 2]


@pytest.mark.parametrize("admitted", [False, True])
async def test_a_suspect_whose_client_leaves_holds_nobody_up(admitted: bool) -> None:
    detector = PoisonDetector()
    await dies(detector, [1, 2], [1])
    running = await detector.enter(job(8))
    suspect = asyncio.create_task(detector.enter(job(1)))
    other = asyncio.create_task(detector.enter(job(9)))
    await asyncio.sleep(0)
    if admitted:
        detector.survived(running)
    suspect.cancel()
    async with asyncio.timeout(5):
        await other


async def test_jobs_that_differ_in_their_form_alone_are_different_suspects() -> None:
    detector, engine = PoisonDetector(), ScriptedEngine()
    jobs = [Job("", [1], (), Sampling(1, constraint=Constraint(grammar, "tools"))) for grammar in ("a", "b")]
    for _ in range(2):
        trial = await detector.enter(jobs[0])
        detector.begin(trial, engine)
        detector.engine_died(engine)
        detector.leave(trial)
    with pytest.raises(PoisonRequest):
        await detector.enter(jobs[0])
    detector.leave(await detector.enter(jobs[1]))
