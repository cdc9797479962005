"""Expired rows are deleted with the rows below them, and their space is returned to the disk."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from gateway.storage import expiry
from gateway.storage.database import NAME, Connection, Database
from gateway.storage.expiry import delete_expired
from gateway.storage.migrations import EXPIRING

NOW = 1_700_000_000


def add(connection: Connection, name: str, expires_at: int | None, size: int = 0) -> None:
    connection.execute(
        "INSERT INTO files (id, caller, filename, purpose, bytes, complete, created_at, expires_at)"
        " VALUES (?, 'a', 'x', 'vision', 0, 1, ?, ?)",
        (name, NOW - 100, expires_at),
    )
    if size:
        connection.execute("INSERT INTO file_chunks VALUES (?, 0, randomblob(?))", (name, size))


def ids(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT id FROM files ORDER BY id")]


def chunks(connection: Connection) -> int:
    (rows,) = connection.execute("SELECT count(*) FROM file_chunks").fetchone()
    return int(rows)


async def test_expiry_goes_on_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, ran = Database(tmp_path, 2**30), asyncio.Event()
    await database.write(add, "a", None)

    async def broken_once(*_: object) -> int:
        monkeypatch.setattr(expiry, "delete_expired", healthy)
        raise ValueError

    async def healthy(*_: object) -> int:
        ran.set()
        return 0

    monkeypatch.setattr(expiry, "EVERY", 0.01)
    monkeypatch.setattr(expiry, "delete_expired", broken_once)
    running = asyncio.create_task(expiry.run(database))
    async with asyncio.timeout(30):
        await ran.wait()
    running.cancel()
    await database.close()


async def test_only_what_has_expired_is_deleted(tmp_path: Path) -> None:
    database = Database(tmp_path, 2**30)

    def fill(connection: Connection) -> None:
        add(connection, "past", NOW - 1)
        add(connection, "now", NOW)
        add(connection, "later", NOW + 1)
        add(connection, "never", None)

    await database.write(fill)
    assert await delete_expired(database, NOW) == 2
    assert await database.read(ids) == ["later", "never"]
    await database.close()


async def test_many_are_deleted_in_bounded_steps_and_the_file_shrinks(tmp_path: Path) -> None:
    database = Database(tmp_path, 2**30)

    def fill(connection: Connection) -> None:
        for number in range(350):
            add(connection, f"file-{number}", NOW, 20_000)

    await database.write(fill)
    steps: list[int] = []

    step = expiry._step

    def counted(connection: Connection, now: int) -> int:
        steps.append(step(connection, now))
        return steps[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(expiry, "_step", counted)
        assert await delete_expired(database, NOW) == 350
    assert steps == [100, 100, 100, 50, 0]
    assert await database.read(chunks) == 0
    await database.close()
    assert (tmp_path / NAME).stat().st_size < 200_000


async def test_every_table_that_expires_has_an_index_for_it(tmp_path: Path) -> None:
    database = Database(tmp_path, 2**30)

    def plans(connection: Connection) -> list[str]:
        asked = "EXPLAIN QUERY PLAN SELECT id FROM {} WHERE expires_at <= 1"
        return [connection.execute(asked.format(table)).fetchone()[-1] for table in EXPIRING]

    for table, plan in zip(EXPIRING, await database.read(plans), strict=True):
        assert f"SEARCH {table} USING INDEX" in plan
    await database.close()


async def test_expiry_creates_no_file_and_survives_a_failing_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "state", 2**30)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(expiry, "EVERY", 0.01)
        running = asyncio.create_task(expiry.run(database))
        await asyncio.sleep(0.05)
        assert not (tmp_path / "state").exists()
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / NAME).write_bytes(b"not a database" * 1000)
        await asyncio.sleep(0.1)
        (tmp_path / "state" / NAME).unlink()
        await database.write(partial(add, name="past", expires_at=1))
        async with asyncio.timeout(30):
            while await database.read(ids):  # noqa: ASYNC110  # there is no event to wait for
                await asyncio.sleep(0.01)
    assert not running.done()
    running.cancel()
    await database.close()
