"""The promises of `make full-shape`, on two layers of each tower."""

import pytest

from tests.full_shape.checks import CHECKS
from tests.full_shape.served import Served

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]  # the first one waits for an engine


@pytest.mark.parametrize("promise", CHECKS)
async def test_it_holds_that(promise: str, served: Served) -> None:
    await CHECKS[promise](served)
