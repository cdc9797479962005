"""One SQLite file for everything stored. Only one thread uses it, so the event loop never waits for a disk.

The file is opened at its first use: on a read-only disk, only the routes that store fail. On a full disk,
deletions use space that a reserve file frees.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar, TypeVarTuple

import structlog

from gateway.errors import GatewayError, StorageFull, StorageQuotaExceeded, StorageUnavailable
from gateway.storage.migrations import MIGRATIONS
from gateway.storage.reserve import Reserve

NAME = "state.sqlite3"
BATCHES_LOCK = "batches.lock"
BUSY_TIMEOUT = 5.0  # seconds to wait for another process that writes
WAL_BYTES = 64 * 2**20  # size of the write-ahead log on the disk between two transactions
HEADROOM = 256  # pages over the limit that a deletion may use
TIDIED_PAGES = 500  # returned to the disk in one transaction, after a deletion that used the reserve
TIDIED_STEPS = 4

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_READ, _WRITE = "BEGIN", "BEGIN IMMEDIATE"
# SQLite's primary result codes (https://sqlite.org/rescode.html) caused by the disk, not by a bug.
_REASONS = {
    sqlite3.SQLITE_PERM: "may not be written",
    sqlite3.SQLITE_BUSY: "is being written by another process",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_IOERR: "is on a disk that reports an error",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_NOTADB: "is damaged",
}

MOVED = (
    "nothing can be stored: the state file was moved or deleted; "
    "put it back, or restart the gateway for a new one"
)

log = structlog.get_logger()


class Cursor(Protocol):
    """A statement's rows: what the cursors of both drivers have in common."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Runs statements in a transaction: an SQLite connection, or one to PostgreSQL with the same methods."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor: ...

    def executemany(self, sql: str, rows: Iterable[Any], /) -> Cursor: ...


class Database:
    """The SQLite file in `folder`, of at most `max_bytes`. None means the user's state directory.

    Each caller may store `max_bytes_per_caller`; with None, only the limit for all applies.
    """

    def __init__(self, folder: Path | None, max_bytes: int, max_bytes_per_caller: int | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_bytes_per_caller = max_bytes_per_caller
        self._thread = ThreadPoolExecutor(1, "storage")
        self._connection: sqlite3.Connection | None = None
        self._logged: str | None = None  # the last failure in the log
        self._identity: tuple[int, int] | None = None  # device and inode of the file, once opened
        self._reserve = Reserve()
        self._batches_lock: int | None = None  # its descriptor, if this process runs the batches

    @property
    def folder(self) -> Path:
        """The state directory. Raises StorageUnavailable if it is not set and there is no home directory."""
        if self._folder is not None:
            return self._folder
        try:
            home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        except RuntimeError:
            raise StorageUnavailable("nothing can be stored: GATEWAY_STATE_DIR is not set") from None
        return Path(home) / "llava-gateway"

    def exists(self) -> bool:
        """Return whether anything was ever stored here."""
        try:
            return (self.folder / NAME).is_file()
        except (OSError, StorageUnavailable):
            return False

    async def read(self, work: Callable[[Connection, *_Ts], _T], *args: *_Ts) -> _T:
        """Run `work` in a transaction on the storage thread, and return its result.

        Raises StorageUnavailable (503), and what `work` raises.
        """
        return await self._run(_READ, False, work, *args)

    async def write(self, work: Callable[[Connection, *_Ts], _T], *args: *_Ts) -> _T:
        """Run `work` that writes, like `read`. All of it is stored, or nothing is.

        Raises StorageFull (507) too. Cancelling the call does not stop the transaction.
        """
        return await self._run(_WRITE, False, work, *args)

    async def free(self, work: Callable[[Connection, *_Ts], _T], *args: *_Ts) -> _T:
        """Run `work` that deletes, like `write`. On a full disk it uses the reserve."""
        return await self._run(_WRITE, True, work, *args)

    async def shrink(self, pages: int) -> bool:
        """Return up to `pages` free pages to the disk; return whether there are more."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._shrink, pages)

    async def claim_batches(self) -> bool:
        """Return whether this process runs the batches. If it does, it keeps doing so until it ends."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._claim_batches)

    async def renew_reserve(self) -> None:
        """Allocate the reserve again, if it was used and the disk has space."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reserve.renew)

    async def close(self) -> None:
        """Wait for the running transaction and close the file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._end)
        self._thread.shutdown()

    async def _run(self, begin: str, frees: bool, work: Callable[[Connection, *_Ts], _T], *args: *_Ts) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, self._transaction, begin, frees, lambda c: work(c, *args)
        )

    def _shrink(self, pages: int) -> bool:
        return self._transaction(_WRITE, True, lambda connection: shrink(connection, pages))

    def _claim_batches(self) -> bool:
        if self._batches_lock is not None:
            return True
        if not self.exists():
            return False
        try:
            descriptor = os.open(self.folder / BATCHES_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:  # The disk is read-only now.
            return False
        try:
            # The kernel releases the lock when the process ends, even by SIGKILL.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._batches_lock = descriptor
        return True

    def _transaction(self, begin: str, frees: bool, work: Callable[[Connection], _T]) -> _T:
        try:
            try:
                result = self._once(begin, work)
            except sqlite3.OperationalError as error:
                # Without a connection, opening the file has failed.
                if not _is_full(error) or not (frees or self._connection is None):
                    raise
                result = self._once_more(begin, work)
        except (sqlite3.DatabaseError, OSError) as error:
            reported = _client_error(error, self._max_bytes_per_caller)
            if reported is None:
                raise
            if not isinstance(reported, StorageQuotaExceeded):  # concerns its caller alone
                self._handle_failure(reported, error)
            raise reported from error
        self._logged = None
        return result

    def _once(self, begin: str, work: Callable[[Connection], _T]) -> _T:
        connection = self._open()
        self._check_in_place()
        connection.execute(begin)
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._check_in_place()
        return result

    def _once_more(self, begin: str, work: Callable[[Connection], _T]) -> _T:
        """Try again with the reserve's space, then return what was deleted to the disk."""
        self._reserve.release()
        try:
            connection = self._open()
            _limit(connection, self._max_bytes, HEADROOM)
            result = self._once(begin, work)
            _tidy(connection)
        finally:
            if self._connection is not None:
                _limit(self._connection, self._max_bytes)
            self._reserve.renew()
        return result

    def _check_in_place(self) -> None:
        """Raise StorageUnavailable if the open file was moved, deleted or replaced."""
        found = self._found()
        if found is not None and found == self._identity:
            return
        if self._logged != MOVED:
            self._logged = MOVED
            log.error("storage_failed", folder=str(self.folder), reason="the state file was moved or deleted")
        if self._connection is not None:
            # The write-ahead log keeps its name: emptied, so that another state file cannot replay it.
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._close()
        if found is not None:  # The file was replaced: use the new one from now on.
            self._identity = None
        raise StorageUnavailable(MOVED)

    def _found(self) -> tuple[int, int] | None:
        try:
            found = (self.folder / NAME).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _handle_failure(self, reported: GatewayError, error: Exception) -> None:
        """Log a failure once, not once per request, and close the file: the next request reopens it."""
        if self._logged != reported.message:
            self._logged = reported.message
            log.error("storage_failed", folder=str(self.folder), reason=str(error))
        if not isinstance(reported, StorageFull):
            self._close()  # so that no restart is needed after a repair
            self._identity = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._identity is not None and self._found() is None:
                raise StorageUnavailable(MOVED)  # A new file would hide that what was stored is missing.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            alone = self._reserve.open(self.folder)
            path = self.folder / NAME
            # SQLite's companion files get the same permissions.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                _set_up(connection, self._max_bytes, self._max_bytes_per_caller)
                if alone:
                    with suppress(sqlite3.OperationalError):  # On a full disk, it expires later.
                        _expire_unfinished(connection)
            except BaseException:
                connection.close()
                raise
            self._reserve.share()
            self._connection, self._identity = connection, self._found()
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _end(self) -> None:
        self._close()
        if self._batches_lock is not None:
            os.close(self._batches_lock)
        self._reserve.close()


def _set_up(connection: sqlite3.Connection, max_bytes: int, max_bytes_per_caller: int | None) -> None:
    """Bring the schema up to date and set what SQLite doesn't keep in the file."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only takes effect in a new file
    connection.execute("PRAGMA journal_mode = WAL")
    # A killed process loses no committed transaction; a power failure may lose the last ones.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    # Debian's SQLite overwrites deleted pages with zeros, which a full disk has no space for.
    connection.execute("PRAGMA secure_delete = FAST")
    _limit(connection, max_bytes)
    connection.execute(_WRITE)
    try:
        _migrate(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("CREATE TEMP TABLE beyond_quota (one)")
    if max_bytes_per_caller is not None:
        # Only growth is refused: a caller over a lowered limit may still delete.
        connection.execute(
            "CREATE TEMP TRIGGER quota AFTER UPDATE OF bytes ON main.usage"  # noqa: S608  # our own number
            f" WHEN NEW.bytes > OLD.bytes AND NEW.bytes > {max_bytes_per_caller}"
            " AND NOT EXISTS (SELECT 1 FROM beyond_quota) BEGIN SELECT RAISE(ABORT, 'quota'); END"
        )


def _limit(connection: sqlite3.Connection, max_bytes: int, more: int = 0) -> None:
    """Limit the file to `max_bytes` plus `more` pages."""
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_size) + more}")


def _expire_unfinished(connection: sqlite3.Connection) -> None:
    """Expire what killed processes left unfinished, so that it is deleted.

    Call it only in the first process that uses the file: no other process is left to finish it.
    """
    connection.execute("UPDATE files SET expires_at = 0 WHERE complete = 0")
    connection.execute("UPDATE responses SET expires_at = 0 WHERE body = x''")


def _tidy(connection: sqlite3.Connection) -> None:
    """Return free pages to the disk, in steps small enough for the reserve."""
    with suppress(sqlite3.OperationalError):  # The deletion itself is committed.
        for _ in range(TIDIED_STEPS):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute(_WRITE)
            more = shrink(connection, TIDIED_PAGES)
            connection.execute("COMMIT")
            if not more:
                break
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def shrink(connection: Connection, pages: int) -> bool:
    """Shrink the file by up to `pages` free pages; return whether there are more."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, pages)):
        connection.execute("PRAGMA incremental_vacuum")  # one page: Python's driver takes a single step
    return bool(free > pages)


@contextmanager
def beyond_quota(connection: Connection) -> Iterator[None]:
    """Allow the writes inside, in one transaction, to exceed their caller's quota."""
    connection.execute("INSERT INTO temp.beyond_quota VALUES (1)")
    yield
    connection.execute("DELETE FROM temp.beyond_quota")  # after an error, the rollback does this


def _migrate(connection: sqlite3.Connection) -> None:
    """Run the migrations that the file lacks. Raises StorageUnavailable if a newer gateway wrote it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == len(MIGRATIONS):
        return  # On a full disk, even writing the same version would fail.
    if version > len(MIGRATIONS):
        raise StorageUnavailable(
            f"nothing can be stored: a newer gateway wrote the state file (schema {version}; "
            f"this one supports up to {len(MIGRATIONS)}); upgrade the gateway, or restore a backup"
        )
    for migration in MIGRATIONS[version:]:
        # `executescript` would commit, and a migration that fails halfway could not be rolled back.
        for statement in migration.split(";\n"):
            if statement.strip():
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def quota_exceeded(max_bytes_per_caller: int | None) -> StorageQuotaExceeded:
    return StorageQuotaExceeded(
        f"your files, batches and stored responses may take {max_bytes_per_caller} bytes; "
        "delete what is no longer needed"
    )


def _is_full(error: sqlite3.OperationalError) -> bool:
    """Return whether a full disk may be the cause: SQLite reports it under several codes."""
    code = error.sqlite_errorcode & 0xFF
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def _client_error(error: Exception, max_bytes_per_caller: int | None) -> GatewayError | None:
    """Return the error that clients get for a failing disk; None for any other error, which is a bug."""
    if isinstance(error, OSError):
        return StorageUnavailable(f"nothing can be stored: {error.strerror or 'the disk fails'}")
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        return quota_exceeded(max_bytes_per_caller)
    code &= 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFull("the storage is full; delete files that are no longer needed")
    if code in _REASONS:
        return StorageUnavailable(f"nothing can be stored: the state file {_REASONS[code]}")
    return None
