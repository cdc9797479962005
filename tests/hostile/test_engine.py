"""What of the cases reaches the real engine, and those that it alone can judge."""

import asyncio

import pytest

from tests.api.wire import connected
from tests.hostile.cases import answers, outcome, serves, shown_in
from tests.hostile.judged import doors
from tests.hostile.parameters import ENGINES_FORMS, PARAMETERS
from tests.hostile.pictures import PICTURES
from tests.hostile.prompts import PROMPTS
from tests.servers import Gateway, metric

pytestmark = pytest.mark.engine
# What the gateway refuses never gets there: test_requests.py has it.
ANSWERED = [case for case in (*PARAMETERS, *PROMPTS, *PICTURES) if case.code is None]
CASES = [*ANSWERED, *ENGINES_FORMS]
IMAGE_TOKEN = 768  # the demo model's
LONGEST = 30  # seconds; a large picture takes a few on a busy machine
GROUP = 20  # cases between two honest requests


async def test_the_real_engine_outlives_every_case(gateway: Gateway) -> None:
    restarts = await metric(gateway, "gateway_engine_restarts_total")
    wrong = []
    assert gateway.log is not None
    begins = gateway.log.stat().st_size
    for number, case in enumerate(CASES):
        try:
            await answers(gateway, case, LONGEST)
        except (AssertionError, TimeoutError, asyncio.IncompleteReadError) as error:
            wrong.append(f"{case.name}: {error!r}"[:400])
        if number % GROUP == 0:
            await serves(gateway)
    await serves(gateway)
    assert wrong == []
    assert await metric(gateway, "gateway_engine_restarts_total") == restarts
    assert shown_in(gateway.log.read_bytes()[begins:].decode(errors="replace")) == []


async def test_the_real_engine_outlives_every_attack_on_a_door(gateway: Gateway) -> None:
    restarts = await metric(gateway, "gateway_engine_restarts_total")
    wrong = []
    for number, door in enumerate(doors(IMAGE_TOKEN)):
        async with connected(gateway) as connection:
            await connection.send(door.sent)
            answer = await connection.answer(LONGEST)
        if outcome(answer) != door.outcome:
            wrong.append((door.name, door.outcome, answer.body[:300]))
        if number % GROUP == 0:
            await serves(gateway)
    await serves(gateway)
    assert wrong == []
    assert await metric(gateway, "gateway_engine_restarts_total") == restarts
