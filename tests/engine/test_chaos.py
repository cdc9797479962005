"""The short form of `make chaos`: several attackers at once and an engine that dies, under honest load."""

import asyncio

import pytest

from tests.servers import Gateway, core
from tools.chaos import attackers
from tools.chaos.load import Tally, asks, honest_load, recovered, right_ones
from tools.chaos.origin import bad_origin
from tools.chaos.outcomes import ANSWERED, HUNG, NEVER

pytestmark = pytest.mark.engine
KEY = "sk-any"  # this gateway needs none


async def test_honest_requests_are_answered_or_told_whatever_happens(gateway: Gateway) -> None:
    made = await right_ones(gateway.url, KEY, asks("llava-demo", 6))
    assert len(made) >= 8
    attacker = Tally()
    async with bad_origin() as origin, honest_load(gateway.url, KEY, made) as honest:
        await asyncio.sleep(1)
        attacks = asyncio.gather(
            attackers.flood(gateway.url, KEY, attackers.fetches(origin, 20), attacker),
            attackers.flood(gateway.url, KEY, attackers.bombs(8), attacker),
            attackers.flood(gateway.url, KEY, attackers.texts(100), attacker),
            attackers.leavers(gateway, KEY, 60, attacker),
        )
        await asyncio.sleep(1)
        honest.strikes()
        core(gateway).kill()
        await attacks
        await recovered(honest, 60)
    assert [outcome for outcome in NEVER if honest.counts[outcome]] == [], honest.odd
    assert honest.recovered is not None
    assert honest.counts[ANSWERED] > 10
    assert attacker.counts[HUNG] == 0, attacker.odd
