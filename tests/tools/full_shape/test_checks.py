"""The promises of `make full-shape`, on two layers of each tower."""

import pytest

from tools.full_shape import measure
from tools.full_shape.checks import CHECKS
from tools.full_shape.served import Served

pytestmark = [pytest.mark.engine, pytest.mark.proof, pytest.mark.timeout(600)]


async def test_speed_and_memory_are_measured(served: Served) -> None:
    speed = await measure.speed(served, tokens=5)
    assert speed.prompt_tokens == 597
    assert speed.first_token > 0
    assert speed.tokens_per_second > 0
    memory = measure.memory(served.gateway.pid)
    assert memory["engine"] > served.plan.shape.known.weights(served.plan.dtype)
    assert memory["gateway"] > 100_000_000


@pytest.mark.parametrize("promise", CHECKS)
async def test_it_holds_that(promise: str, served: Served) -> None:
    await CHECKS[promise](served)
