"""While one caller floods the gateway, another's short text is answered in time, and never refused.

Each flood lasts as long as the other's requests; its own requests may be refused or wait. `make fairness`
runs longer floods.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.engine.floods import FLOODS, MORE
from tests.engine.keyed import KEYS, client
from tests.servers import Gateway, samples

pytestmark = pytest.mark.engine

LONG = "FAIRNESS_SECONDS" in os.environ
SECONDS = float(os.environ.get("FAIRNESS_SECONDS", "4"))  # of ann's requests under each flood
ROUNDS = 3
BOUND = 2.0  # seconds that each of them may take


@asynccontextmanager
async def under(gateway: Gateway, flood: str) -> AsyncIterator[None]:
    """Run `flood` while the block runs."""
    before = await load(gateway)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.engine.floods", flood, gateway.url
    )
    try:
        async with asyncio.timeout(60):
            while await load(gateway) <= before:  # noqa: ASYNC110  # it is asked over HTTP
                await asyncio.sleep(0.05)
        yield
        assert process.returncode is None, "the flood ended by itself"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def load(gateway: Gateway) -> float:
    """Return the number of requests running, waiting or answered."""
    names = ("gateway_in_flight", "gateway_waiting", "gateway_requests_total")
    found = [
        sample.value
        for name in names
        for sample in await samples(gateway, name)
        if sample.labels.get("route") != "/metrics"
    ]
    return sum(found)


@pytest.mark.parametrize("flood", FLOODS | MORE if LONG else FLOODS)
async def test_a_flood_delays_nobody_else(keyed: Gateway, flood: str) -> None:
    """A busy machine can delay a round, so the best of three counts."""
    for _ in range(ROUNDS):
        worst = await slowest_answer(keyed, flood)
        if worst < BOUND:
            return
    raise AssertionError(f"the slowest answer took {worst:.2f} s in the last of {ROUNDS} rounds")


async def slowest_answer(gateway: Gateway, flood: str) -> float:
    """Return the seconds of ann's slowest answer under `flood`."""
    taken = []
    async with client(gateway, KEYS["ann"]) as ann, under(gateway, flood):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            # A refusal raises, and fails the test.
            await ann.chat.completions.create(
                model="llava-demo", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
            )
            taken.append(time.monotonic() - began)
            await asyncio.sleep(0.05)
    middle, worst = sorted(taken)[len(taken) // 2], max(taken)
    print(f"{len(taken)} answers; median {middle:.3f} s, worst {worst:.3f} s")  # for `pytest -rP`
    return worst
