"""Batches in storage: results are read in pieces, unfinished batches by turns, tries are counted."""

from pathlib import Path
from typing import Any

from gateway.schema.batches import Batch, InputLine, LineError, read_line
from gateway.storage.batches import (
    Batches,
    Owned,
    Used,
    Waiting,
    _lines_left,
    _results,
    _unfinished,
)
from gateway.storage.database import Connection, Database

LARGE = b"x" * 600_000


async def test_large_results_are_read_a_megabyte_at_a_time(database: Database) -> None:
    batches = Batches(database)
    batch = Batch(
        id="b",
        endpoint="/v1/chat/completions",
        input_file_id="f",
        completion_window="24h",
        created_at=1,
        expires_at=2,
    )
    await batches.create(Owned(batch, "ann", 1))
    await batches.add_lines("b", [InputLine(number, str(number), b"{}") for number in range(1, 6)])
    await batches.update("b", "validating", status="in_progress")
    for number in range(1, 6):
        await batches.finish_line("b", number, LARGE, Used())
    assert len(await database.read(_results, "b", 0)) == 2
    assert [result.line async for result in batches.results("b")] == [1, 2, 3, 4, 5]


def made(name: str) -> Batch:
    return Batch(
        id=name, endpoint="/v1/x", input_file_id="f", completion_window="24h", created_at=1, expires_at=2
    )


async def test_unfinished_batches_are_chosen_in_turn_between_callers(database: Database) -> None:
    batches = Batches(database)
    for name in ("eve-1", "eve-2", "eve-3", "eve-4", "ann-1", "bob-1", "bob-2"):
        await batches.create(Owned(made(name), name[:3], 1))
    await batches.end("eve-1", {"status": "failed"}, (), 9)
    found = [owned.batch.id for owned in await batches.unfinished(2, 100)]
    assert found == ["eve-2", "ann-1", "bob-1", "eve-3", "bob-2"]
    assert [owned.batch.id for owned in await batches.unfinished(2, 2)] == ["eve-2", "ann-1"]


async def test_frequent_queries_use_the_index_alone(tmp_path: Path) -> None:
    database = Database(tmp_path, 2**30)
    asked: list[str] = []

    def explain(connection: Any) -> list[str]:
        connection.set_trace_callback(asked.append)
        _lines_left(connection)
        _unfinished(connection, 8, 64)
        connection.set_trace_callback(None)
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall() for query in asked]
        return [row[-1] for plan in plans for row in plan]

    plan = "\n".join(await database.read(explain))
    await database.close()
    assert plan.count("SEARCH batches USING COVERING INDEX batches_open (status=?)") == 2
    assert "SCAN batches" not in plan


async def test_tries_of_a_line_are_counted_until_it_has_a_result(database: Database) -> None:
    batches = Batches(database)
    await batches.create(Owned(made("b"), "ann", 1))
    await batches.add_lines("b", [InputLine(7, "x", b"{}")])
    await batches.update("b", "validating", status="in_progress")
    assert await batches.next_line("b", 0) == Waiting(7, 2, 0)
    assert [await batches.count_try("b", 7, by) for by in (1, 1, -1, 1)] == [1, 2, 1, 2]
    assert await batches.next_line("b", 0) == Waiting(7, 2, 2)
    await batches.finish_line("b", 7, b"{}", None)
    assert await batches.count_try("b", 7, 1) == 0
    assert await database.read(_tries) == []


def _tries(connection: Connection) -> list[tuple[int, int]]:
    return connection.execute("SELECT line, attempts FROM batch_attempts").fetchall()


def test_a_line_of_very_many_values_is_refused_before_it_is_parsed() -> None:
    raw = b'{"custom_id": "a", "method": "POST", "body": {"x": [' + b"[]," * 130_000 + b"0]}}"
    refused = read_line(raw, 7)
    assert refused == LineError(
        "invalid_value", "this line has over 250000 commas and brackets; the limit is 250000", 7
    )
