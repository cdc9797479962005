"""What has expired goes, with all that hangs on it, and its room is given back."""

import asyncio
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from gateway.storage import expiry
from gateway.storage.database import NAME, Database
from gateway.storage.migrations import EXPIRING
from gateway.storage.expiry import sweep

NOW = 1_700_000_000


def add(connection: sqlite3.Connection, name: str, expires_at: int | None, size: int = 0) -> None:
    connection.execute(
        "INSERT INTO files (id, caller, filename, purpose, bytes, complete, created_at, expires_at)"
        " VALUES (?, 'a', 'x', 'vision', 0, 1, ?, ?)",
        (name, NOW - 100, expires_at),
    )
    if size:
        connection.execute("INSERT INTO file_chunks VALUES (?, 0, randomblob(?))", (name, size))


def ids(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT id FROM files ORDER BY id")]


def chunks(connection: sqlite3.Connection) -> int:
    (rows,) = connection.execute("SELECT count(*) FROM file_chunks").fetchone()
    return int(rows)


async def test_sweeping_goes_on_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, swept = Database(tmp_path, 2**30), asyncio.Event()
    await database.write(add, "a", None)

    async def broken_once(*_: object) -> int:
        monkeypatch.setattr(expiry, "sweep", healthy)
        raise ValueError

    async def healthy(*_: object) -> int:
        swept.set()
        return 0

    monkeypatch.setattr(expiry, "EVERY", 0.01)
    monkeypatch.setattr(expiry, "sweep", broken_once)
    sweeping = asyncio.create_task(expiry.sweep_forever(database))
    async with asyncio.timeout(30):
        await swept.wait()
    sweeping.cancel()
    await database.close()


async def test_only_what_has_expired_goes(tmp_path: Path) -> None:
    database = Database(tmp_path, 2**30)

    def fill(connection: sqlite3.Connection) -> None:
        add(connection, "past", NOW - 1)
        add(connection, "now", NOW)
        add(connection, "later", NOW + 1)
        add(connection, "never", None)

    await database.write(fill)
    assert await sweep(database, NOW) == 2
    assert await database.read(ids) == ["later", "never"]
    await database.close()


async def test_many_go_in_bounded_steps_and_the_file_shrinks(tmp_path: Path) -> None:
    database = Database(tmp_path, 2**30)

    def fill(connection: sqlite3.Connection) -> None:
        for number in range(350):
            add(connection, f"file-{number}", NOW, 20_000)

    await database.write(fill)
    steps: list[int] = []

    step = expiry._step

    def counted(connection: sqlite3.Connection, now: int) -> int:
        steps.append(step(connection, now))
        return steps[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(expiry, "_step", counted)
        assert await sweep(database, NOW) == 350
    assert steps == [100, 100, 100, 50, 0]
    assert await database.read(chunks) == 0
    await database.close()
    assert (tmp_path / NAME).stat().st_size < 200_000


async def test_every_table_that_expires_has_an_index_for_it(tmp_path: Path) -> None:
    database = Database(tmp_path, 2**30)

    def plans(connection: sqlite3.Connection) -> list[str]:
        asked = "EXPLAIN QUERY PLAN SELECT id FROM {} WHERE expires_at <= 1"
        return [connection.execute(asked.format(table)).fetchone()[-1] for table in EXPIRING]

    for table, plan in zip(EXPIRING, await database.read(plans), strict=True):
        assert f"SEARCH {table} USING INDEX" in plan
    await database.close()


async def test_sweeper_makes_no_file_and_outlives_a_failing_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "state", 2**30)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(expiry, "EVERY", 0.01)
        sweeping = asyncio.create_task(expiry.sweep_forever(database))
        await asyncio.sleep(0.05)
        assert not (tmp_path / "state").exists()
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / NAME).write_bytes(b"not a database" * 1000)
        await asyncio.sleep(0.1)
        (tmp_path / "state" / NAME).unlink()
        await database.write(partial(add, name="past", expires_at=1))
        async with asyncio.timeout(30):
            while await database.read(ids):  # noqa: ASYNC110  # the sweeper knows no event
                await asyncio.sleep(0.01)
    assert not sweeping.done()
    sweeping.cancel()
    await database.close()
