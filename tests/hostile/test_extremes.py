"""Random extremes of sampling: each is answered or refused by name, and the engine lives on.

`make hostile` has the real engine outlive 1,500.
"""

import asyncio
import os
from typing import Any

import orjson
import pytest

from tests.api.wire import Answer
from tests.hostile.cases import outcome, posted, serves
from tests.hostile.extremes import EDGES, requests
from tests.servers import Gateway, metric

COUNT = int(os.environ.get("HOSTILE_EXTREMES", "100"))
FEW = 200  # where no engine is asked, only the checks before it
AT_ONCE = 16
CLEAR = {"invalid_value", "unsupported_parameter", "context_length_exceeded", "unsupported_value"}


def fault(request: dict[str, Any], answer: Answer) -> str | None:
    """Return what is wrong with the answer, if anything."""
    status, code = outcome(answer)
    if status == 200:
        broken = b'"error"' in answer.body or not answer.body
        return f"{request}: {answer.body[:300]!r}" if broken else None
    named = answer.error["param"] or ""
    clear = status == 400 and code in CLEAR and named.partition(".")[0].partition("[")[0] in EDGES
    return None if clear else f"{request}: {answer.body[:300]!r}"


async def faults(gateway: Gateway, count: int) -> list[str]:
    places = asyncio.Semaphore(AT_ONCE)

    async def tried(request: dict[str, Any]) -> str | None:
        async with places:
            return fault(request, await posted(gateway, orjson.dumps(request), 60))

    found = await asyncio.gather(*map(tried, requests(count)))
    await serves(gateway)
    return [one for one in found if one]


async def test_extremes_are_answered_or_refused_by_name(attacked: Gateway) -> None:
    assert await faults(attacked, FEW) == []


@pytest.mark.engine
async def test_the_real_engine_outlives_extremes(gateway: Gateway) -> None:
    restarts = await metric(gateway, "gateway_engine_restarts_total")
    assert await faults(gateway, COUNT) == []
    assert await metric(gateway, "gateway_engine_restarts_total") == restarts
