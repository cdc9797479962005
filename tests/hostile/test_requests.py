"""Each hostile request has its exact answer, and the honest ones between them are answered."""

import asyncio

import pytest

from tests.hostile.addresses import ADDRESSES
from tests.hostile.cases import answers, serves
from tests.hostile.parameters import PARAMETERS
from tests.hostile.pictures import PICTURES
from tests.hostile.prompts import PROMPTS
from tests.servers import Gateway

pytestmark = pytest.mark.slow

TABLES = {"parameters": PARAMETERS, "prompts": PROMPTS, "addresses": ADDRESSES, "pictures": PICTURES}
GROUP = 20  # cases between two honest requests


@pytest.mark.parametrize("table", TABLES)
async def test_each_hostile_request_has_its_answer_and_the_honest_ones_between_too(
    attacked: Gateway, table: str
) -> None:
    wrong = []
    for number, case in enumerate(TABLES[table], 1):
        try:
            await answers(attacked, case)
            if number % GROUP == 0:
                await serves(attacked)
        except (AssertionError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            wrong.append(f"{case.name}: {error!r}"[:400])
    await serves(attacked)
    assert wrong == []
