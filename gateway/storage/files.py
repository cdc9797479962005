"""Files that callers uploaded or batches wrote for them. A caller sees only its own."""

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal
from uuid import uuid4

from gateway.errors import InvalidValue, NotFound, StorageUnavailable
from gateway.schema.paths import short
from gateway.storage.database import Connection, Database, beyond_quota

CHUNK_BYTES = 2**20  # bytes of a file in one row, and in memory
LISTED = 200  # files read at once for a list
UPLOAD_TTL = 3600  # seconds after which an unfinished upload is deleted

_COLUMNS = "id, filename, purpose, bytes, created_at, expires_at"
_VISIBLE = "caller = ? AND complete = 1 AND (expires_at IS NULL OR expires_at > ?)"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's description; times are Unix seconds."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Selects up to `limit` files in order of time, from the one after the file `after`."""

    limit: int
    order: Literal["asc", "desc"]
    after: str | None = None
    purpose: str | None = None


class Files:
    """The files of all callers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, caller: str, filename: str) -> "Upload":
        """Create a file to write to. It is invisible until it is finished."""
        file_id, now = f"file-{uuid4().hex}", int(time.time())
        await self._database.write(_begin, file_id, caller, filename, now)
        return Upload(self._database, file_id, now)

    async def begin_beyond_quota(self, caller: str, filename: str) -> "Upload":
        """Create a file like `begin`, outside the quota: a copy of stored data that is deleted at the end."""
        file_id, now = f"file-{uuid4().hex}", int(time.time())
        await self._database.write(_beyond_quota, _begin, file_id, caller, filename, now)
        return Upload(self._database, file_id, now, beyond_quota=True)

    async def get(self, file_id: str, caller: str) -> StoredFile:
        """Return the caller's file. Raises NotFound."""
        return await self._database.read(get, file_id, caller)

    async def pieces(self, caller: str, wanted: Listing) -> AsyncGenerator[list[StoredFile]]:
        """Yield the caller's files that `wanted` selects, and one more if any is left.

        They come LISTED at a time, so that a long list does not delay other requests. Raises InvalidValue if
        the caller has no file `after`.
        """
        left = wanted.limit + 1
        last_row = await self._database.read(_row_of, caller, wanted.after)
        while left > 0:
            found = await self._database.read(_listed, caller, wanted, last_row, min(left, LISTED))
            if not found:
                return
            last_row = found[-1][0]
            left -= len(found)
            yield [file for _, file in found]

    async def count(self, caller: str) -> int:
        """Return how many files the caller has, unfinished and expired ones included until their deletion."""
        return await self._database.read(_count, caller)

    async def delete(self, file_id: str, caller: str) -> None:
        """Delete the caller's file. Raises NotFound."""
        await self._database.free(_delete, file_id, caller)

    async def content(self, file_id: str, caller: str) -> bytes:
        """Return the file's content as one object; check its size first. Raises NotFound."""
        return await self._database.read(_content, file_id, caller)

    async def chunks(self, file: StoredFile) -> AsyncGenerator[bytes]:
        """Yield a file's content in order, CHUNK_BYTES at a time. The caller's access is already checked.

        Raises NotFound if the file is deleted meanwhile, so that a part of it is not taken for all of it.
        """
        read = 0
        for place in count():
            if read >= file.bytes:
                return
            data = await self._database.read(_chunk, file.id, place)
            if data is None:
                raise NotFound(f"file {file.id} was deleted while it was read", param="file_id")
            read += len(data)
            yield data


class Upload:
    """A file that is being written. It expires soon unless it is finished."""

    def __init__(
        self, database: Database, file_id: str, created_at: int, *, beyond_quota: bool = False
    ) -> None:
        self.id = file_id
        self.created_at = created_at
        self.bytes = 0
        self._database = database
        self._beyond_quota = beyond_quota
        self._place = 0

    async def write(self, data: bytes) -> None:
        """Append `data`, at most CHUNK_BYTES. Raises StorageFull."""
        if self._beyond_quota:
            await self._database.write(_beyond_quota, _add_chunk, self.id, self._place, data)
        else:
            await self._database.write(_add_chunk, self.id, self._place, data)
        self._place += 1
        self.bytes += len(data)

    async def finish(self, purpose: str, expires_at: int | None) -> None:
        """Make the file visible."""
        await self._database.write(self.finish_in, purpose, expires_at)

    def finish_in(self, connection: Connection, purpose: str, expires_at: int | None) -> None:
        """Make the file visible, within a larger transaction."""
        connection.execute(
            "UPDATE files SET purpose = ?, bytes = ?, complete = 1, expires_at = ? WHERE id = ?",
            (purpose, self.bytes, expires_at, self.id),
        )

    async def drop(self) -> None:
        """Delete the unfinished file."""
        await self._database.free(_drop, self.id)


def _beyond_quota(connection: Connection, work: Callable[..., None], *arguments: Any) -> None:
    with beyond_quota(connection):
        work(connection, *arguments)


def _begin(connection: Connection, file_id: str, caller: str, filename: str, now: int) -> None:
    connection.execute(
        "INSERT INTO files (id, caller, filename, purpose, created_at, expires_at)"
        " VALUES (?, ?, ?, '', ?, ?)",
        (file_id, caller, filename, now, now + UPLOAD_TTL),
    )


def get(connection: Connection, file_id: str, caller: str) -> StoredFile:
    """Return the caller's file. Raises NotFound."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM files WHERE id = ? AND {_VISIBLE}",  # noqa: S608  # our own column names
        (file_id, caller, int(time.time())),
    ).fetchone()
    if row is None:
        raise NotFound(f"no such file: {short(file_id)}", param="file_id")
    return StoredFile(*row)


def _row_of(connection: Connection, caller: str, after: str | None) -> int | None:
    """Return the row number of the file `after`."""
    if after is None:
        return None
    row = connection.execute(
        "SELECT rowid FROM files WHERE id = ? AND caller = ?", (after, caller)
    ).fetchone()
    if row is None:
        raise InvalidValue(f"after: no such file: {short(after)}", param="after")
    return int(row[0])


def _listed(
    connection: Connection, caller: str, wanted: Listing, last_row: int | None, limit: int
) -> list[tuple[int, StoredFile]]:
    """Return files with their row numbers, from the one after `last_row`."""
    where = _VISIBLE
    values: list[str | int] = [caller, int(time.time())]
    if wanted.purpose is not None:
        where += " AND purpose = ?"
        values.append(wanted.purpose)
    if last_row is not None:
        where += f" AND rowid {'>' if wanted.order == 'asc' else '<'} ?"
        values.append(last_row)
    rows = connection.execute(
        f"SELECT rowid, {_COLUMNS} FROM files WHERE {where} ORDER BY rowid {wanted.order} LIMIT ?",  # noqa: S608  # our own column names
        (*values, limit),
    )
    return [(number, StoredFile(*row)) for number, *row in rows]


def _count(connection: Connection, caller: str) -> int:
    (number,) = connection.execute("SELECT count(*) FROM files WHERE caller = ?", (caller,)).fetchone()
    return int(number)


def _delete(connection: Connection, file_id: str, caller: str) -> None:
    get(connection, file_id, caller)
    _drop(connection, file_id)


def _drop(connection: Connection, file_id: str) -> None:
    connection.execute("DELETE FROM files WHERE id = ?", (file_id,))


def _content(connection: Connection, file_id: str, caller: str) -> bytes:
    get(connection, file_id, caller)
    rows = connection.execute("SELECT data FROM file_chunks WHERE file_id = ? ORDER BY place", (file_id,))
    return b"".join(data for (data,) in rows)


def _chunk(connection: Connection, file_id: str, place: int) -> bytes | None:
    cursor = connection.execute(
        "SELECT data FROM file_chunks WHERE file_id = ? AND place = ?", (file_id, place)
    )
    row = cursor.fetchone()
    return None if row is None else row[0]


def _add_chunk(connection: Connection, file_id: str, place: int, data: bytes) -> None:
    added = connection.execute(
        "INSERT INTO file_chunks SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM files WHERE id = ?)",
        (file_id, place, data, file_id),
    ).rowcount
    if not added:
        raise StorageUnavailable("the file uploaded so far is no longer stored; send it again")
