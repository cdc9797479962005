"""A batch's input file: read to its end or refused by name, in time that grows with its size."""

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.batches.input import Input
from gateway.schema.batches import Batch, InputLine, LineError
from gateway.storage.batches import Batches, Owned
from gateway.storage.database import Database
from gateway.storage.files import Files
from tests.growth import assert_linear

LONGEST = 2**23
CHAT = "/v1/chat/completions"


def line(name: str, text: str = "") -> bytes:
    body = {"messages": text}
    return orjson.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body}) + b"\n"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path, 2**30)
    yield opened
    await opened.close()


async def batch_of(database: Database, *chunks: bytes) -> Owned:
    """Return a stored batch whose input file has these chunks."""
    upload = await Files(database).begin("eve", "in.jsonl")
    for chunk in chunks:
        await upload.write(chunk)
    await upload.finish("batch", None)
    batch = Batch(
        id=f"batch_{upload.id}",
        endpoint=CHAT,
        input_file_id=upload.id,
        completion_window="24h",
        created_at=1,
        expires_at=2,
    )
    owned = Owned(batch, "eve", 1)
    await Batches(database).create(owned)
    return owned


async def stored(database: Database, owned: Owned) -> list[str]:
    return [result.custom_id async for result in Batches(database).results(owned.batch.id)]


async def test_byte_order_mark_before_the_first_line_is_skipped(database: Database) -> None:
    source = Input(Batches(database), Files(database), LONGEST)
    owned = await batch_of(database, b"\xef\xbb\xbf" + line("a") + line("b"))
    assert await source.store(owned) == (2, [])
    assert await stored(database, owned) == ["a", "b"]
    owned = await batch_of(database, b"\xef\xbb\xbf\r\n" + line("a"))
    assert await source.store(owned) == (1, [])
    owned = await batch_of(database, b"\xef\xbb\xbf\n")
    assert await source.store(owned) == (0, [LineError("empty_file", "The input file has no requests.")])


async def test_lines_are_the_same_wherever_their_file_is_cut(database: Database) -> None:
    content = line("a") + b"\n" + line("b") + line("c")[:-1]
    for cut in range(0, len(content), 7):
        owned = await batch_of(database, content[:cut], content[cut : cut + 3], content[cut + 3 :])
        assert await Input(Batches(database), Files(database), LONGEST).store(owned) == (3, [])
        assert await stored(database, owned) == ["a", "b", "c"]


async def test_each_line_is_held_to_the_limit(database: Database) -> None:
    limited = Input(Batches(database), Files(database), len(line("a", "x" * 100)) - 1)
    assert await limited.store(await batch_of(database, line("a", "x" * 100))) == (1, [])
    too_long = line("a", "x" * 101)
    for chunks in ([too_long], [line("b"), too_long[:100], too_long[100:]]):
        _, errors = await limited.store(await batch_of(database, *chunks))
        assert [(error.code, error.line) for error in errors] == [("line_too_long", len(chunks) // 2 + 1)]


async def test_input_deleted_while_it_is_read_is_named(database: Database) -> None:
    owned = await batch_of(database, line("a"), line("b"))

    class Deleting(Batches):
        async def add_lines(self, batch_id: str, lines: list[InputLine]) -> bool:
            await Files(database).delete(owned.batch.input_file_id, "eve")
            return await super().add_lines(batch_id, lines)

    file_id = owned.batch.input_file_id
    assert await Input(Deleting(database), Files(database), LONGEST).store(owned) == (
        0,
        [
            LineError(
                "input_file_not_found",
                f"file {file_id} was deleted while it was read",
                param="input_file_id",
            )
        ],
    )


async def test_reading_stops_when_the_batch_is_cancelled(database: Database) -> None:
    owned = await batch_of(database, line("a"), line("b"), line("c"))

    class Cancelling(Batches):
        async def add_lines(self, batch_id: str, lines: list[InputLine]) -> bool:
            if lines[0].custom_id == "b":
                await self.cancel(batch_id, "eve", 1)
            return await super().add_lines(batch_id, lines)

    assert await Input(Cancelling(database), Files(database), LONGEST).store(owned) == (1, [])
    assert await stored(database, owned) == ["a"]


@pytest.mark.parametrize(("piece", "size"), [(b"x" * 400, 5000), (b"{}\n", 500)])
async def test_reading_takes_time_in_proportion_to_the_size(
    database: Database, piece: bytes, size: int
) -> None:
    """One line in very many pieces, and very many lines that are refused."""
    source = Input(Batches(database), Files(database), LONGEST)

    async def read(number: int) -> None:
        async def chunks(*_: Any) -> AsyncGenerator[bytes]:
            for _number in range(number):
                yield piece

        reader: Any = source
        reader._files = type("Pieces", (), {"chunks": chunks})()
        file: Any = None
        assert len([some async for some in source._read(file, CHAT)]) > 0

    await assert_linear(read, size)
