"""Results of a batch are read some at a time, by their size."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.schema.batches import Batch, InputLine, LineError, read_line
from gateway.storage.batches import Batches, Owned, Used, _results
from gateway.storage.database import Database

LARGE = b"x" * 600_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path / "state", 2**30)
    yield opened
    await opened.close()


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


def test_a_line_of_very_many_values_is_refused_before_it_is_parsed() -> None:
    raw = b'{"custom_id": "a", "method": "POST", "body": {"x": [' + b"[]," * 130_000 + b"0]}}"
    refused = read_line(raw, 7)
    assert refused == LineError(
        "invalid_value", "this line has over 250000 commas and brackets; the limit is 250000", 7
    )
