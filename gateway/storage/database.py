"""One SQLite file for everything that is stored, used by one thread: the event loop never waits for a disk.

The file is opened when it is first needed: on a read-only disk, only the routes that store fail.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog

from gateway.errors import GatewayError, StorageFull, StorageQuotaExceeded, StorageUnavailable
from gateway.storage.migrations import STEPS

NAME = "state.sqlite3"
BUSY_TIMEOUT = 5.0  # seconds to wait for another process that writes
WAL_BYTES = 64 * 2**20  # what the write-ahead log may keep on the disk between two transactions

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_READ, _WRITE = "BEGIN", "BEGIN IMMEDIATE"
# SQLite's primary result codes (https://sqlite.org/rescode.html) that are the disk's fault and not ours.
_REASONS = {
    sqlite3.SQLITE_PERM: "may not be written",
    sqlite3.SQLITE_BUSY: "is being written by another process",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_IOERR: "is on a disk that reports an error",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_NOTADB: "is damaged",
}

log = structlog.get_logger()


class Database:
    """The SQLite file in `folder`, which grows to `max_bytes` at most. `folder` None is the user's own.

    Each caller may store `max_bytes_per_caller`; None is no limit but that of all.
    """

    def __init__(self, folder: Path | None, max_bytes: int, max_bytes_per_caller: int | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_bytes_per_caller = max_bytes_per_caller
        self._thread = ThreadPoolExecutor(1, "storage")
        self._connection: sqlite3.Connection | None = None
        self._noted: str | None = None  # the last failure in the log

    @property
    def folder(self) -> Path:
        """The state directory. Raises StorageUnavailable where there is no home directory to find it in."""
        if self._folder is not None:
            return self._folder
        try:
            home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        except RuntimeError:
            raise StorageUnavailable("nothing can be stored: GATEWAY_STATE_DIR is not set") from None
        return Path(home) / "llava-gateway"

    def exists(self) -> bool:
        """Say whether anything was ever stored here."""
        try:
            return (self.folder / NAME).is_file()
        except (OSError, StorageUnavailable):
            return False

    async def read(self, work: Callable[[sqlite3.Connection, *_Ts], _T], *args: *_Ts) -> _T:
        """Return what `work` returns, which runs in a transaction of its own, on the storage thread.

        Raises StorageUnavailable (503), and whatever `work` raises.
        """
        return await self._run(_READ, work, *args)

    async def write(self, work: Callable[[sqlite3.Connection, *_Ts], _T], *args: *_Ts) -> _T:
        """Do the same for work that writes. All of it is stored, or nothing is.

        Raises StorageFull (507) too. A caller that is cancelled doesn't stop the transaction.
        """
        return await self._run(_WRITE, work, *args)

    async def close(self) -> None:
        """Wait for what is under way and close the file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def _run(self, begin: str, work: Callable[[sqlite3.Connection, *_Ts], _T], *args: *_Ts) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._transaction, begin, lambda c: work(c, *args))

    def _transaction(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            connection = self._open()
            connection.execute(begin)
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.DatabaseError, OSError) as error:
            told = _told(error, self._max_bytes_per_caller)
            if told is None:
                raise
            if not isinstance(told, StorageQuotaExceeded):  # which is the caller's own affair
                self._note(told, error)
            raise told from error
        self._noted = None
        return result

    def _note(self, told: GatewayError, error: Exception) -> None:
        """Log a failure once, however many requests meet it, and open the file again for the next."""
        if self._noted != told.message:
            self._noted = told.message
            log.error("storage_failed", folder=str(self.folder), reason=str(error))
        if not isinstance(told, StorageFull):
            self._close()  # the gateway need not be restarted after a repair

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.folder / NAME
            # SQLite's companion files take over these permissions.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                _set_up(connection, self._max_bytes, self._max_bytes_per_caller)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _set_up(connection: sqlite3.Connection, max_bytes: int, max_bytes_per_caller: int | None) -> None:
    """Bring the schema up to date and set what SQLite doesn't keep in the file."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only takes effect in a new file
    connection.execute("PRAGMA journal_mode = WAL")
    # A killed process loses nothing that was committed; a power failure may lose the last transactions.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_size)}")
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
        # Whoever has more, since the limit was lowered, may still delete.
        connection.execute(
            "CREATE TEMP TRIGGER quota AFTER UPDATE OF bytes ON main.usage"  # noqa: S608  # a number of ours
            f" WHEN NEW.bytes > OLD.bytes AND NEW.bytes > {max_bytes_per_caller}"
            " AND NOT EXISTS (SELECT 1 FROM beyond_quota) BEGIN SELECT RAISE(ABORT, 'quota'); END"
        )


@contextmanager
def beyond_quota(connection: sqlite3.Connection) -> Iterator[None]:
    """Allow the writes inside, in one transaction, to exceed their caller's quota."""
    connection.execute("INSERT INTO temp.beyond_quota VALUES (1)")
    yield
    connection.execute("DELETE FROM temp.beyond_quota")  # or the transaction is rolled back


def _migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that the file has not taken yet. Raises StorageUnavailable for a newer gateway's."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise StorageUnavailable(
            f"nothing can be stored: the state has version {version} and this gateway knows {len(STEPS)}"
        )
    for step in STEPS[version:]:
        # `executescript` would commit the transaction, which makes the step whole.
        for statement in step.split(";\n"):
            if statement.strip():
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(STEPS)}")


def _told(error: Exception, max_bytes_per_caller: int | None) -> GatewayError | None:
    """Return what a client is told of a failing disk; None for any other error, which is our own."""
    if isinstance(error, OSError):
        return StorageUnavailable(f"nothing can be stored: {error.strerror or 'the disk fails'}")
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        return StorageQuotaExceeded(
            f"your files, batches and stored responses may take {max_bytes_per_caller} bytes; "
            "delete what is no longer needed"
        )
    code &= 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFull("the storage is full; delete files that are no longer needed")
    if code in _REASONS:
        return StorageUnavailable(f"nothing can be stored: the state file {_REASONS[code]}")
    return None
