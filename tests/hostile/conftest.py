from collections.abc import AsyncIterator

import pytest

from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway


@pytest.fixture(scope="session")
async def attacked() -> AsyncIterator[Gateway]:
    """Yield a gateway on the scripted engine, which is attacked again and again and must stay as it was."""
    async with scripted_gateway(ScriptedEngine()) as running:
        yield running
