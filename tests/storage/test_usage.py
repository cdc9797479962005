"""A caller's quota counts what its rows take on the disk, for every shape of row."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.schema.batches import Batch, InputLine
from gateway.storage.batches import Owned, _add_lines, _insert
from gateway.storage.database import Connection, Database
from gateway.storage.files import _add_chunk, _begin
from gateway.storage.migrations import MIGRATIONS
from gateway.storage.responses import _begin as _begin_response
from gateway.storage.responses import _finish
from gateway.storage.stored_history import StoredItem

WIDE = "😀"  # four bytes
CALLER = "e" * 32


def batch(number: int, metadata: dict[str, str] | None = None) -> Owned:
    made = Batch(
        id=f"batch_{number:032}",
        endpoint="/v1/chat/completions",
        input_file_id=f"file-{number:032}",
        completion_window="24h",
        created_at=1,
        expires_at=2,
        metadata=metadata,
    )
    return Owned(made, CALLER, 1)


def batches_of_metadata(connection: Connection) -> None:
    metadata = {f"{n:02}{WIDE * 62}": WIDE * 512 for n in range(16)}
    for number in range(100):
        _insert(connection, batch(number, metadata))


def batches_of_little_metadata(connection: Connection) -> None:
    for number in range(2000):
        _insert(connection, batch(number, {"a": "x" * 512, "b": "x" * 512, "c": "x" * 512}))


def lines_of_long_names(connection: Connection) -> None:
    _insert(connection, batch(0))
    _add_lines(
        connection, batch(0).batch.id, [InputLine(n, f"{n:04}{WIDE * 500}", b"{}") for n in range(1000)]
    )


def lines_of_nothing(connection: Connection) -> None:
    _insert(connection, batch(0))
    _add_lines(connection, batch(0).batch.id, [InputLine(n, f"{n:05}", b"{}") for n in range(10_000)])


def empty_files(connection: Connection) -> None:
    for number in range(2000):
        _begin(connection, f"file-{number:032}", CALLER, WIDE * 255, 1)


def files_of_half_a_page(connection: Connection) -> None:
    for number in range(2000):
        _begin(connection, f"file-{number:032}", CALLER, "x", 1)
        _add_chunk(connection, f"file-{number:032}", 0, bytes(2100))


def responses_of_many_items(connection: Connection) -> None:
    for number in range(10):
        items = [StoredItem(f"{n:04}{'x' * 1500}", b"{}", {0: "x"}) for n in range(100)]
        _begin_response(
            connection,
            response_id=f"resp_{number:032}",
            caller=CALLER,
            previous_id=None,
            items=items,
            expires_at=1,
        )


def responses_of_long_bodies(connection: Connection) -> None:
    for number in range(1000):
        name = f"resp_{number:032}"
        _begin_response(connection, response_id=name, caller=CALLER, previous_id=None, items=[], expires_at=1)
        _finish(
            connection,
            response_id=name,
            caller=CALLER,
            body=b"x" * 2100,
            output=[StoredItem(f"msg_{number:032}", b"{}")],
            now=0,
            expires_at=1,
        )


SHAPES: list[Callable[[Connection], None]] = [
    batches_of_metadata,
    batches_of_little_metadata,
    lines_of_long_names,
    lines_of_nothing,
    empty_files,
    files_of_half_a_page,
    responses_of_many_items,
    responses_of_long_bodies,
]


def used(connection: Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return 4096 * int(pages)


def counted(connection: Connection) -> int:
    (size,) = connection.execute("SELECT total(bytes) FROM usage").fetchone()
    return int(size)


def empty(connection: Connection, table: str) -> None:
    connection.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize("fill", SHAPES)
async def test_what_is_counted_is_what_is_stored(tmp_path: Path, fill: Callable[[Connection], None]) -> None:
    database = Database(tmp_path, 2**30)
    before = await database.read(used)
    await database.write(fill)
    taken, said = await database.read(used) - before, await database.read(counted)
    assert 0.97 * taken <= said <= 1.4 * taken, said / taken
    for table in ("files", "batches", "responses"):
        await database.write(empty, table)
    assert await database.read(counted) == 0
    await database.close()


@pytest.mark.parametrize("result", [None, b"y" * 500])
def test_usage_follows_every_change_of_a_row(result: bytes | None) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    for migration in MIGRATIONS:
        connection.executescript(migration)
    usage = "SELECT * FROM usage"

    _begin(connection, "f", "eve", "é", 1)
    _add_chunk(connection, "f", 0, bytes(5000))
    file = 500 + len("é".encode()) + 5000 + 200
    assert connection.execute(usage).fetchall() == [("eve", file)]

    connection.execute(
        "INSERT INTO batches (id, caller, status, state, output_ttl) VALUES ('b', 'eve', '', '{}', 0)"
    )
    connection.execute(
        "INSERT INTO batch_lines (batch_id, line, custom_id, request) VALUES ('b', 1, 'x', ?)", (b"x" * 300,)
    )
    line = 300 + 2 * len("x")
    assert connection.execute(usage).fetchall() == [("eve", file + 500 + len("{}") + line + 300)]

    connection.execute("UPDATE batch_lines SET result = ?, request = NULL", (result,))
    line += len(result or b"")
    assert connection.execute(usage).fetchall() == [("eve", file + 500 + len("{}") + line)]
    connection.execute("UPDATE batches SET state = ?", (b"{" + b" " * 98 + b"}",))
    assert connection.execute("SELECT stored FROM batches").fetchone() == (500 + 100 + line,)

    connection.execute("DELETE FROM batches")
    assert connection.execute(usage).fetchall() == [("eve", file)]
    connection.execute("DELETE FROM files")
    assert connection.execute(usage).fetchall() == []
    connection.close()
