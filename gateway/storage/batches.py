"""Batches and their lines. A line's result is stored once, in one transaction with the batch's counts."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from gateway.errors import InvalidValue, NotFound
from gateway.schema.batches import UNFINISHED, Batch, BatchStatus, InputLine, LineError, RequestCounts
from gateway.schema.paths import short
from gateway.storage.database import Connection, Database, beyond_quota
from gateway.storage.files import Upload

LISTED: Final = 10  # batches read at once for a list: each may have 40 kB of metadata
READ_AT_ONCE: Final = 2**20  # bytes of results read at once for a file; a single one may be larger

_COLUMNS = "status, state, total, completed, failed, input_tokens, cached_tokens, output_tokens"


@dataclass(frozen=True, slots=True)
class Used:
    """The tokens of one line."""

    prompt: int = 0
    cached: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Owned:
    """A batch, its caller, and how long its files are kept (seconds)."""

    batch: Batch
    caller: str
    output_ttl: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line to answer: the size of its request, and how often it was tried before."""

    number: int
    bytes: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Result:
    """A line's result, as a line of the output file. `json` is None if the line was never answered."""

    line: int
    custom_id: str
    json: bytes | None = field(repr=False)
    failed: bool


class Batches:
    """The batches of all callers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owned: Owned) -> None:
        await self._database.write(_insert, owned)

    async def get(self, batch_id: str, caller: str) -> Batch:
        """Return the caller's batch. Raises NotFound."""
        return await self._database.read(_get, batch_id, caller)

    async def pieces(self, caller: str, limit: int, after: str | None) -> AsyncGenerator[list[Batch]]:
        """Yield up to `limit` of the caller's batches after `after`, newest first, and one more if any.

        They come LISTED at a time, so that a long list does not delay other requests. Raises InvalidValue if
        the caller has no batch `after`.
        """
        left = limit + 1
        last_row = await self._database.read(_row_of, caller, after)
        while left > 0:
            found = await self._database.read(_listed, caller, last_row, min(left, LISTED))
            if not found:
                return
            last_row = found[-1][0]
            left -= len(found)
            yield [batch for _, batch in found]

    async def cancel(self, batch_id: str, caller: str, now: int) -> Batch:
        """Begin to cancel the caller's batch. Raises NotFound, and InvalidValue if it has ended."""
        return await self._database.free(_cancel, batch_id, caller, now)

    async def unfinished(self, per_caller: int, limit: int) -> list[Owned]:
        """Return batches that have not ended: each caller's oldest, then each one's second, and so on."""
        return await self._database.read(_unfinished, per_caller, limit)

    async def update(self, batch_id: str, *statuses: BatchStatus, **changes: Any) -> bool:
        """Change fields of a batch if its status is one of `statuses`; return whether it was."""
        return await self._database.write(_update, batch_id, statuses, changes)

    async def end(
        self,
        batch_id: str,
        changes: Mapping[str, Any],
        files: Iterable[tuple[Upload, int | None]],
        until: int,
    ) -> None:
        """Make a batch's files visible, end it and delete its lines; the batch is deleted at `until`.

        Each file comes with its time of expiry.
        """
        await self._database.free(_end, batch_id, changes, tuple(files), until)

    async def clear_lines(self, batch_id: str) -> None:
        """Delete a batch's lines, before its input is read again."""
        await self._database.free(_clear_lines, batch_id)

    async def give_up(self, batch_id: str, error: LineError, now: int) -> None:
        """Mark a batch to end as failed, with `error`, and delete the requests that have no result."""
        await self._database.free(_give_up, batch_id, error, now)

    async def add_lines(self, batch_id: str, lines: list[InputLine]) -> bool:
        """Store lines of a batch that is being validated; return False if it no longer is."""
        return await self._database.write(_add_lines, batch_id, lines)

    async def next_line(self, batch_id: str, after: int) -> "Waiting | None":
        """Return the next line to answer; None if there is none, or the batch does not run."""
        return await self._database.read(_next_line, batch_id, after)

    async def read_line(self, batch_id: str, line: int) -> InputLine | None:
        """Return a line's request; None if the line has a result, or the batch does not run."""
        return await self._database.read(_read_line, batch_id, line)

    async def count_try(self, batch_id: str, line: int, by: int) -> int:
        """Add `by` to the tries of a line; return how many there are, or 0 if the batch does not run."""
        return await self._database.write(_count_try, batch_id, line, by)

    async def finish_line(self, batch_id: str, line: int, result: bytes, used: Used | None) -> None:
        """Store a line's result, unless it has one. `used` is None for a line that failed."""
        await self._database.write(_finish_line, batch_id, line, result, used)

    async def lines_left(self) -> int:
        """Return how many lines of all callers' unfinished batches have no result yet."""
        return await self._database.read(_lines_left)

    async def results(self, batch_id: str) -> AsyncIterator[Result]:
        """Yield the results of all lines in order."""
        after = 0
        while found := await self._database.read(_results, batch_id, after):
            for result in found:
                yield result
            after = found[-1].line


def _batch(row: tuple[Any, ...]) -> Batch:
    status, state, total, completed, failed, prompt, cached, output = row
    fields = orjson.loads(state) | {
        "status": status,
        "request_counts": RequestCounts(total, completed, failed),
    }
    fields["usage"] = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + output,
    }
    return Batch(**fields)


def _insert(connection: Connection, owned: Owned) -> None:
    batch = owned.batch
    connection.execute(
        "INSERT INTO batches (id, caller, status, state, output_ttl) VALUES (?, ?, ?, ?, ?)",
        (batch.id, owned.caller, batch.status, orjson.dumps(batch), owned.output_ttl),
    )


def _get(connection: Connection, batch_id: str, caller: str) -> Batch:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM batches WHERE id = ? AND caller = ?",  # our own column names
        (batch_id, caller),
    ).fetchone()
    if row is None:
        raise NotFound(f"no such batch: {short(batch_id)}", param="batch_id")
    return _batch(row)


def _row_of(connection: Connection, caller: str, after: str | None) -> int:
    """Return the row number of the batch `after`; for None, a number above all."""
    if after is None:
        return 2**62
    row = connection.execute(
        "SELECT rowid FROM batches WHERE id = ? AND caller = ?", (after, caller)
    ).fetchone()
    if row is None:
        raise InvalidValue(f"after: no such batch: {short(after)}", param="after")
    return int(row[0])


def _listed(connection: Connection, caller: str, before: int, limit: int) -> list[tuple[int, Batch]]:
    rows = connection.execute(
        f"SELECT rowid, {_COLUMNS} FROM batches WHERE caller = ? AND rowid < ? ORDER BY rowid DESC LIMIT ?",
        (caller, before, limit),
    )
    return [(number, _batch(tuple(row))) for number, *row in rows]


def _cancel(connection: Connection, batch_id: str, caller: str, now: int) -> Batch:
    batch = _get(connection, batch_id, caller)
    if batch.status not in ("validating", "in_progress"):
        raise InvalidValue(f"the batch is {batch.status}: it cannot be cancelled")
    _update(connection, batch_id, (batch.status,), {"status": "cancelling", "cancelling_at": now})
    return _get(connection, batch_id, caller)


def _unfinished(connection: Connection, per_caller: int, limit: int) -> list[Owned]:
    rows = connection.execute(
        "WITH ranked AS ("
        "SELECT rowid AS number, row_number() OVER (PARTITION BY caller ORDER BY rowid) AS turn"
        f" FROM batches WHERE status IN {UNFINISHED})"
        f" SELECT caller, output_ttl, {_COLUMNS} FROM ranked JOIN batches ON batches.rowid = number"
        " WHERE turn <= ? ORDER BY turn, number LIMIT ?",
        (per_caller, limit),
    )
    return [Owned(_batch(tuple(row)), caller, output_ttl) for caller, output_ttl, *row in rows]


def _lines_left(connection: Connection) -> int:
    query = f"SELECT sum(total - completed - failed) FROM batches WHERE status IN {UNFINISHED}"
    (left,) = connection.execute(query).fetchone()
    return int(left or 0)


def _update(
    connection: Connection,
    batch_id: str,
    statuses: tuple[BatchStatus, ...],
    changes: Mapping[str, Any],
) -> bool:
    cursor = connection.execute(
        f"SELECT {_COLUMNS} FROM batches WHERE id = ?",  # our own column names
        (batch_id,),
    )
    row = cursor.fetchone()
    if row is None or row[0] not in statuses:
        return False
    batch = replace(_batch(row), **changes)
    # A batch must be able to end, even if its caller's quota is used up.
    with beyond_quota(connection):
        connection.execute(
            "UPDATE batches SET status = ?, state = ?, total = ? WHERE id = ?",
            (batch.status, orjson.dumps(batch), batch.request_counts.total, batch_id),
        )
    return True


def _end(
    connection: Connection,
    batch_id: str,
    changes: Mapping[str, Any],
    files: tuple[tuple[Upload, int | None], ...],
    until: int,
) -> None:
    _update(connection, batch_id, UNFINISHED, changes)
    for upload, expires_at in files:
        upload.finish_in(connection, "batch_output", expires_at)
    _clear_lines(connection, batch_id)
    # A line that was never answered has failed: the counts are those of the two files.
    connection.execute(
        "UPDATE batches SET expires_at = ?, failed = total - completed WHERE id = ?", (until, batch_id)
    )


def _give_up(connection: Connection, batch_id: str, error: LineError, now: int) -> None:
    connection.execute(
        "UPDATE batch_lines SET request = NULL WHERE batch_id = ? AND result IS NULL", (batch_id,)
    )
    errors = {"object": "list", "data": [error]}
    _update(
        connection, batch_id, UNFINISHED, {"status": "finalizing", "finalizing_at": now, "errors": errors}
    )


def _clear_lines(connection: Connection, batch_id: str) -> None:
    connection.execute("DELETE FROM batch_lines WHERE batch_id = ?", (batch_id,))


def _add_lines(connection: Connection, batch_id: str, lines: list[InputLine]) -> bool:
    found = connection.execute("SELECT status FROM batches WHERE id = ?", (batch_id,)).fetchone()
    if found != ("validating",):
        return False
    connection.executemany(
        "INSERT INTO batch_lines (batch_id, line, custom_id, request) VALUES (?, ?, ?, ?)",
        ((batch_id, line.number, line.custom_id, line.request) for line in lines),
    )
    return True


_RUNS: Final = "(SELECT status FROM batches WHERE id = batch_id) = 'in_progress'"


def _next_line(connection: Connection, batch_id: str, after: int) -> Waiting | None:
    row = connection.execute(
        "SELECT line, length(request), ifnull((SELECT attempts FROM batch_attempts AS tried"
        " WHERE tried.batch_id = batch_lines.batch_id AND tried.line = batch_lines.line), 0) FROM batch_lines"
        f" WHERE batch_id = ? AND line > ? AND result IS NULL AND {_RUNS} ORDER BY line LIMIT 1",
        (batch_id, after),
    ).fetchone()
    return None if row is None else Waiting(*row)


def _read_line(connection: Connection, batch_id: str, line: int) -> InputLine | None:
    row = connection.execute(
        "SELECT line, custom_id, request FROM batch_lines"
        f" WHERE batch_id = ? AND line = ? AND result IS NULL AND {_RUNS}",
        (batch_id, line),
    ).fetchone()
    return None if row is None else InputLine(*row)


def _count_try(connection: Connection, batch_id: str, line: int, by: int) -> int:
    # In a separate table: changing a row of `batch_lines` would write its request again.
    row = connection.execute(
        "INSERT INTO batch_attempts SELECT batch_id, line, max(0, :by) FROM batch_lines"
        f" WHERE batch_id = :batch AND line = :line AND result IS NULL AND {_RUNS}"
        " ON CONFLICT (batch_id, line) DO UPDATE SET attempts = batch_attempts.attempts + :by"
        " RETURNING attempts",
        {"batch": batch_id, "line": line, "by": by},
    ).fetchone()
    return 0 if row is None else int(row[0])


def _finish_line(connection: Connection, batch_id: str, line: int, result: bytes, used: Used | None) -> None:
    cursor = connection.execute(
        "UPDATE batch_lines SET result = ?, request = NULL, failed = ?"
        " WHERE batch_id = ? AND line = ? AND result IS NULL",
        (result, used is None, batch_id, line),
    )
    if not cursor.rowcount:
        return
    connection.execute("DELETE FROM batch_attempts WHERE batch_id = ? AND line = ?", (batch_id, line))
    spent = used or Used()
    connection.execute(
        "UPDATE batches SET completed = completed + ?, failed = failed + ?, input_tokens = input_tokens + ?,"
        " cached_tokens = cached_tokens + ?, output_tokens = output_tokens + ? WHERE id = ?",
        (int(used is not None), int(used is None), spent.prompt, spent.cached, spent.output, batch_id),
    )


def _results(connection: Connection, batch_id: str, after: int) -> list[Result]:
    rows = connection.execute(
        "SELECT line, custom_id, result, failed FROM batch_lines"
        " WHERE batch_id = ? AND line > ? ORDER BY line LIMIT 100",
        (batch_id, after),
    )
    found: list[Result] = []
    size = 0
    for line, custom_id, json, failed in rows:
        found.append(Result(line, custom_id, json, bool(failed)))
        size += len(json or b"")
        if size > READ_AT_ONCE:
            break
    return found
