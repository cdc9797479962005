"""What a death of the engine proves against the jobs that ran, and who waits for whom afterwards."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from gateway.engine.interface import Constraint, Job, Sampling
from gateway.engine.suspects import Suspects, Trial
from gateway.errors import PoisonRequest
from tests.scripted_engine import ScriptedEngine


def job(name: int) -> Job:
    return Job(str(name), [name], (), Sampling(1))


async def dies(suspects: Suspects, names: Sequence[int], proven: Sequence[int] = ()) -> None:
    """Run the jobs `names` on one engine, those in `proven` until their first delta; then it dies."""
    engine = ScriptedEngine()
    trials = []
    for name in [*proven, *(name for name in names if name not in proven)]:
        trial = await suspects.enter(job(name))
        suspects.begin(trial, engine)
        if name in proven:
            suspects.survived(trial)
        trials.append(trial)
    suspects.engine_died(engine)
    for trial in trials:
        suspects.leave(trial)


async def is_refused(suspects: Suspects, name: int) -> bool:
    with suppress(PoisonRequest):
        suspects.leave(await suspects.enter(job(name)))
        return False
    return True


@pytest.mark.parametrize(
    ("deaths", "refused"),
    [
        # Of each death: those that had given something, and the last one to begin.
        ([([], 1)], False),
        ([([], 1), ([], 1)], True),
        ([([2], 1), ([], 1)], True),
        ([([2], 1), ([2], 1)], True),  # the same company twice
        ([([2], 1), ([1], 3)], False),  # either time it may have been the other
        ([([2], 1), ([1], 3), ([1], 4), ([1], 5)], False),
        ([([2], 1), ([3], 1)], False),
        ([([2], 1), ([3], 1), ([4], 1)], True),  # each time it alone had not given anything yet
    ],
)
async def test_a_death_counts_only_with_what_else_ran(
    deaths: list[tuple[list[int], int]], refused: bool
) -> None:
    suspects = Suspects()
    for proven, last in deaths:
        await dies(suspects, [*proven, last], proven)
    assert await is_refused(suspects, 1) is refused


async def test_what_waits_when_an_engine_dies_is_not_suspected() -> None:
    suspects = Suspects()
    await dies(suspects, [1])
    first = await suspects.enter(job(1))
    waiting = asyncio.ensure_future(suspects.enter(job(2)))
    await asyncio.sleep(0)
    dead = ScriptedEngine()
    suspects.begin(first, dead)
    suspects.engine_died(dead)
    suspects.leave(first)
    suspects.leave(await waiting)
    await dies(suspects, [2])
    assert await is_refused(suspects, 1)
    assert not await is_refused(suspects, 2)


async def test_a_suspect_runs_before_anything_else_begins_and_others_before_the_next_suspect() -> None:
    suspects, order = Suspects(), list[int]()
    await dies(suspects, [1, 2], [1])
    running = await suspects.enter(job(8))  # it came before the suspects did
    trials: dict[int, Trial] = {}

    async def enter(name: int) -> None:
        trials[name] = await suspects.enter(job(name))
        order.append(name)

    tasks = [asyncio.create_task(enter(name)) for name in (1, 2, 3, 4)]
    await asyncio.sleep(0)
    assert order == []  # the first waits until nothing is before its first delta
    suspects.survived(running)
    await asyncio.sleep(0.01)
    assert order == [1]
    tasks[2].cancel()
    suspects.survived(trials[1])
    await asyncio.sleep(0.01)
    assert order == [1, 4]
    suspects.leave(trials[4])
    await asyncio.sleep(0.01)
    assert order == [1, 4, 2]


@pytest.mark.parametrize("admitted", [False, True])
async def test_a_suspect_whose_client_leaves_holds_nobody_up(admitted: bool) -> None:
    suspects = Suspects()
    await dies(suspects, [1, 2], [1])
    running = await suspects.enter(job(8))
    suspect = asyncio.create_task(suspects.enter(job(1)))
    other = asyncio.create_task(suspects.enter(job(9)))
    await asyncio.sleep(0)
    if admitted:
        suspects.survived(running)
    suspect.cancel()
    async with asyncio.timeout(5):
        await other


async def test_jobs_that_differ_in_their_form_alone_are_different_suspects() -> None:
    suspects, engine = Suspects(), ScriptedEngine()
    jobs = [Job("", [1], (), Sampling(1, constraint=Constraint(grammar, "tools"))) for grammar in ("a", "b")]
    for _ in range(2):
        trial = await suspects.enter(jobs[0])
        suspects.begin(trial, engine)
        suspects.engine_died(engine)
        suspects.leave(trial)
    with pytest.raises(PoisonRequest):
        await suspects.enter(jobs[0])
    suspects.leave(await suspects.enter(jobs[1]))
