"""A constraint is judged by the CPU time of its compilation, never by the wait."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.engine.interface import Constraint
from gateway.errors import InvalidValue, Overloaded
from tests.servers import PROMPTLY

constraints = pytest.importorskip("gateway.engine.vllm_constraints")

Work = Callable[[], object]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> dict[str, Work]:
    """Return what compiling each grammar does, and count compilations; THREADS run at once."""
    works: dict[str, Work] = {}

    class Matcher:
        def __init__(self, _tokenizer: Any, grammar: str, *, log_level: int) -> None:
            del log_level
            works[grammar]()

        def is_error(self) -> bool:
            return False

        def deep_copy(self) -> "Matcher":
            return self

        def compute_bitmask(self) -> None: ...

    monkeypatch.setattr(constraints.llguidance.hf, "from_tokenizer", lambda *_: None)
    monkeypatch.setattr(constraints.llguidance, "grammar_from", lambda _, grammar: grammar)
    monkeypatch.setattr(constraints.llguidance, "LLMatcher", Matcher)
    monkeypatch.setattr(constraints, "PATIENCE", 0.2)
    monkeypatch.setattr(constraints, "MAX_CPU_SECONDS", 0.02)
    return works


@pytest.fixture
async def one(compiled: dict[str, Work]) -> AsyncIterator[Any]:
    del compiled
    made = constraints.Constraints([], 10)
    yield made
    made.close()


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def of(grammar: str, scope: str = "") -> Constraint:
    return Constraint(grammar, "response_format", scope)


async def test_what_is_late_is_a_503_and_is_answered_once_the_machine_is_idle(
    one: Any, compiled: dict[str, Work]
) -> None:
    released = threading.Event()
    compiled |= {"slow 1": released.wait, "slow 2": released.wait, "cheap": lambda: None}
    tasks = [asyncio.create_task(one.check(of(name))) for name in compiled]
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(failure) for failure in failures] == [Overloaded] * 3
    released.set()
    for name in compiled:
        await one.check(of(name))


async def test_what_takes_much_cpu_time_is_refused_for_good(
    one: Any, compiled: dict[str, Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constraints, "PATIENCE", PROMPTLY)
    runs: list[int] = []

    def costly() -> None:
        runs.append(1)
        burn(0.1)

    compiled["costly"] = costly
    for _ in range(2):
        with pytest.raises(InvalidValue, match=r"response_format: it takes 0\.\d s of CPU to compile"):
            await one.check(of("costly"))
    assert runs == [1]


async def test_what_does_not_end_is_refused_once_it_has_used_too_much(
    one: Any, compiled: dict[str, Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def endless() -> None:
        while not ended.is_set():
            burn(0.01)

    compiled["endless"] = endless
    monkeypatch.setattr(constraints, "PATIENCE", 0.5)
    try:
        for _ in range(2):
            with pytest.raises(InvalidValue, match=r"it takes over 0\.02 s of CPU to compile"):
                await one.check(of("endless"))
    finally:
        ended.set()


async def test_the_same_constraint_is_compiled_once_for_a_caller_and_again_for_another(
    one: Any, compiled: dict[str, Work]
) -> None:
    """Otherwise response times would reveal what others use."""
    runs: list[int] = []
    compiled["same"] = lambda: runs.append(1)
    await asyncio.gather(*(one.check(of("same", "ann")) for _ in range(5)))
    assert len(runs) == 1
    await one.check(of("same", "eve"))
    assert len(runs) == 2


async def test_a_compilation_that_nobody_waits_for_any_more_does_not_begin(
    one: Any, compiled: dict[str, Work]
) -> None:
    released, runs = threading.Event(), list[int]()
    compiled |= {"slow 1": released.wait, "slow 2": released.wait, "left": lambda: runs.append(1)}
    tasks = [asyncio.create_task(one.check(of(name))) for name in compiled]
    await asyncio.sleep(0.01)
    tasks[2].cancel()
    await asyncio.wait(tasks[2:])
    released.set()
    await asyncio.gather(*tasks[:2])
    assert runs == []
    await one.check(of("left"))
    assert runs == [1]
