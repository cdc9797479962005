"""The database, as SQLite's file and in PostgreSQL: what is promised of one holds for both."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.storage.database import Database
from gateway.storage.postgres import Postgres
from tests.postgres import Server, postgres

GIB = 2**30


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        opened = Database(tmp_path / "state", GIB)
    else:
        server: Server = request.getfixturevalue("server")
        server.clear()
        opened = Postgres(server.url, GIB)
    yield opened
    await opened.close()
