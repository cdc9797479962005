"""A gateway with the scripted engine that the commands' tests share."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway


@pytest.fixture(scope="package")
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture(scope="package")
async def gateway(engine: ScriptedEngine) -> AsyncIterator[Gateway]:
    """Yield a gateway without a log, which would be in the commands' output: they run in its process."""
    before = structlog.get_config()["logger_factory"]
    with Path(os.devnull).open("w") as nowhere:  # noqa: ASYNC230  # it does not block
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(nowhere))
        async with scripted_gateway(engine, fetch_allow=("127.0.0.1",)) as running:
            yield running
        structlog.configure(logger_factory=before)


@pytest.fixture(autouse=True)
def _no_jobs_yet(engine: ScriptedEngine) -> None:
    engine.jobs.clear()
