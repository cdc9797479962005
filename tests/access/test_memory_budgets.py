"""Memory is asked for in full: nobody takes more than their permits say."""

import asyncio
import re
from pathlib import Path

import pytest

from gateway.access.memory_budgets import MemoryBudgets, peak_bytes
from gateway.errors import ImageTooLarge, InvalidValue
from gateway.settings import load
from gateway.telemetry.metrics import Metrics
from tests.access.test_fair_semaphore import ANN, EVE

MIB = 2**20
LARGE = 5_000_000  # pixels


@pytest.fixture
def memory() -> MemoryBudgets:
    """Return 4 MiB for pixels: one for small images, three for large ones."""
    return MemoryBudgets(load(memory_pixels=4 * MIB), Metrics())


async def test_an_image_may_take_all_memory_once_it_is_free(memory: MemoryBudgets) -> None:
    async with memory.pixels(EVE, LARGE, MIB):
        asked = asyncio.create_task(memory.pixels(ANN, LARGE, 3 * MIB).__aenter__())
        await asyncio.sleep(0.01)
        assert not asked.done()
    holding = await asked
    assert memory._large.taken == holding.amount == 3 * 1024
    holding.release()


async def test_many_log_probabilities_are_of_the_bodies_memory_and_few_are_free(
    memory: MemoryBudgets,
) -> None:
    async with memory.log_probabilities(EVE, 4, 196):
        assert memory._bodies.taken == 0
        async with memory.log_probabilities(ANN, 512, 512):
            assert memory._bodies.taken == 320


async def test_an_image_that_takes_more_memory_than_there_is_is_refused(memory: MemoryBudgets) -> None:
    with pytest.raises(ImageTooLarge, match="the image needs 4 MiB to decode; the limit is 3 MiB"):
        async with memory.pixels(ANN, LARGE, 3 * MIB + 1):
            pass
    assert memory._large.taken == 0


def test_the_table_in_the_docs_is_the_sum() -> None:
    page = (Path(__file__).parents[2] / "docs/memory.md").read_text(encoding="utf-8")
    told = [int(size) for size in re.findall(r"^\| .*\| (\d+) MiB \|", page, re.MULTILINE)]
    assert told == [round(size / MIB) for size in peak_bytes(load(), threads=2).values()]


async def test_more_log_probabilities_than_there_is_memory_for_are_refused() -> None:
    memory = MemoryBudgets(load(memory_bodies=MIB), Metrics())
    async with memory.log_probabilities(ANN, 276, 3000):
        assert memory._bodies.taken == 1024
    with pytest.raises(
        InvalidValue, match=r"3000 log probabilities of 277 tokens need 2 MiB; the limit is 1 MiB"
    ):
        memory.log_probabilities(ANN, 277, 3000)


async def test_what_is_stored_counts_twice_and_little_of_it_is_free(memory: MemoryBudgets) -> None:
    async with memory.stored(EVE, 2**16):
        assert memory._stored.taken == 0
        async with memory.stored(ANN, 100 * 1024):
            assert memory._stored.taken == 200
