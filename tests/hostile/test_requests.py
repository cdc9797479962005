"""Each hostile request has its exact answer and no content in the log; honest ones between are answered."""

import asyncio
import io

import pytest

from tests.hostile.addresses import ADDRESSES
from tests.hostile.cases import answers, serves, shown_in
from tests.hostile.parameters import PARAMETERS
from tests.hostile.pictures import PICTURES
from tests.hostile.prompts import PROMPTS
from tests.servers import Gateway
from tests.written_logs import written_to

pytestmark = pytest.mark.slow

TABLES = {"parameters": PARAMETERS, "prompts": PROMPTS, "addresses": ADDRESSES, "pictures": PICTURES}
GROUP = 20  # cases between two honest requests


@pytest.mark.parametrize("table", TABLES)
async def test_each_hostile_request_has_its_answer_and_the_honest_ones_between_too(
    attacked: Gateway, table: str
) -> None:
    wrong = []
    log = io.StringIO()
    with written_to(log, "json"):
        for number, case in enumerate(TABLES[table], 1):
            try:
                await answers(attacked, case)
                if number % GROUP == 0:
                    await serves(attacked)
            except (AssertionError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                wrong.append(f"{case.name}: {error!r}"[:400])
        await serves(attacked)
    assert wrong == []
    assert shown_in(log.getvalue()) == []
