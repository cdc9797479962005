"""One SQLite file for everything stored. One thread uses it, so that the event loop never waits for a disk.

The file is opened when it is first needed: on a read-only disk, only the routes that store fail. On a full
disk, what deletes may use the room of a reserve.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog

from gateway.errors import GatewayError, StorageFull, StorageQuotaExceeded, StorageUnavailable
from gateway.storage.migrations import MIGRATIONS
from gateway.storage.reserve import Reserve

NAME = "state.sqlite3"
BUSY_TIMEOUT = 5.0  # seconds to wait for another process that writes
WAL_BYTES = 64 * 2**20  # what the write-ahead log may keep on the disk between two transactions
HEADROOM = 256  # pages over the limit that what deletes may take
TIDIED_PAGES = 500  # given back to the disk in one transaction, after a deletion from the reserve
TIDIED_STEPS = 4

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

MOVED = (
    "nothing can be stored: the state file was moved or deleted; "
    "put it back, or restart the gateway for a new one"
)

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
        self._identity: tuple[int, int] | None = None  # device and inode of the file, once it was opened
        self._reserve = Reserve()

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
        """Run `work` in its own transaction on the storage thread, and return its result.

        Raises StorageUnavailable (503), and whatever `work` raises.
        """
        return await self._run(_READ, False, work, *args)

    async def write(self, work: Callable[[sqlite3.Connection, *_Ts], _T], *args: *_Ts) -> _T:
        """Do the same for work that writes. All of it is stored, or nothing is.

        Raises StorageFull (507) too. A caller that is cancelled doesn't stop the transaction.
        """
        return await self._run(_WRITE, False, work, *args)

    async def free(self, work: Callable[[sqlite3.Connection, *_Ts], _T], *args: *_Ts) -> _T:
        """Do the same for work that deletes: it may use the reserve, on a full disk too."""
        return await self._run(_WRITE, True, work, *args)

    async def renew_reserve(self) -> None:
        """Take the room of the reserve again, if it was used and there is room."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reserve.renew)

    async def close(self) -> None:
        """Wait for what is under way and close the file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._end)
        self._thread.shutdown()

    async def _run(
        self, begin: str, frees: bool, work: Callable[[sqlite3.Connection, *_Ts], _T], *args: *_Ts
    ) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, self._transaction, begin, frees, lambda c: work(c, *args)
        )

    def _transaction(self, begin: str, frees: bool, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            try:
                result = self._once(begin, work)
            except sqlite3.OperationalError as error:
                # Without a connection it could not even be opened.
                if not _is_full(error) or not (frees or self._connection is None):
                    raise
                result = self._once_more(begin, work)
        except (sqlite3.DatabaseError, OSError) as error:
            told = _told(error, self._max_bytes_per_caller)
            if told is None:
                raise
            if not isinstance(told, StorageQuotaExceeded):  # which is the caller's own affair
                self._note(told, error)
            raise told from error
        self._noted = None
        return result

    def _once(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
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

    def _once_more(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Try again in the room of the reserve, then give back to the disk what was deleted."""
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
        """Raise StorageUnavailable if the open file was moved, deleted or replaced: what it holds is lost."""
        found = self._found()
        if found is not None and found == self._identity:
            return
        told = StorageUnavailable(MOVED)
        if self._noted != told.message:
            self._noted = told.message
            log.error("storage_failed", folder=str(self.folder), reason="the state file was moved or deleted")
        if self._connection is not None:
            # The write-ahead log stays, by its name: it must hold nothing that another file would take over.
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._close()
        if found is not None:  # Another file is in its place: that is used from now on.
            self._identity = None
        raise told

    def _found(self) -> tuple[int, int] | None:
        try:
            found = (self.folder / NAME).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _note(self, told: GatewayError, error: Exception) -> None:
        """Log a failure once, however many requests meet it, and open the file again for the next."""
        if self._noted != told.message:
            self._noted = told.message
            log.error("storage_failed", folder=str(self.folder), reason=str(error))
        if not isinstance(told, StorageFull):
            self._close()  # the gateway need not be restarted after a repair
            self._identity = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._identity is not None and self._found() is None:
                raise StorageUnavailable(MOVED)  # A new file would hide that what was stored is missing.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            alone = self._reserve.open(self.folder)
            path = self.folder / NAME
            # SQLite's companion files take over these permissions.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                _set_up(connection, self._max_bytes, self._max_bytes_per_caller)
                if alone:
                    with suppress(sqlite3.OperationalError):  # On a full disk, it expires by itself.
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
        self._reserve.close()


def _set_up(connection: sqlite3.Connection, max_bytes: int, max_bytes_per_caller: int | None) -> None:
    """Bring the schema up to date and set what SQLite doesn't keep in the file."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only takes effect in a new file
    connection.execute("PRAGMA journal_mode = WAL")
    # A killed process loses nothing that was committed; a power failure may lose the last transactions.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    # Debian's SQLite would write a deleted file's pages again, with zeros: on a full disk, that is too much.
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
        # A caller over a limit that was lowered may still delete.
        connection.execute(
            "CREATE TEMP TRIGGER quota AFTER UPDATE OF bytes ON main.usage"  # noqa: S608  # a number of ours
            f" WHEN NEW.bytes > OLD.bytes AND NEW.bytes > {max_bytes_per_caller}"
            " AND NOT EXISTS (SELECT 1 FROM beyond_quota) BEGIN SELECT RAISE(ABORT, 'quota'); END"
        )


def _limit(connection: sqlite3.Connection, max_bytes: int, more: int = 0) -> None:
    """Let the file grow to `max_bytes` and `more` pages."""
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_size) + more}")


def _expire_unfinished(connection: sqlite3.Connection) -> None:
    """Have the next sweep delete what processes that were killed had begun.

    Only for the first process that uses the file: nobody else is there to finish it.
    """
    connection.execute("UPDATE files SET expires_at = 0 WHERE complete = 0")
    connection.execute("UPDATE responses SET expires_at = 0 WHERE body = x''")


def _tidy(connection: sqlite3.Connection) -> None:
    """Give free pages back to the disk, in steps that the reserve has room for."""
    with suppress(sqlite3.OperationalError):  # What was deleted is deleted.
        for _ in range(TIDIED_STEPS):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute(_WRITE)
            more = give_back(connection, TIDIED_PAGES)
            connection.execute("COMMIT")
            if not more:
                break
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def give_back(connection: sqlite3.Connection, pages: int) -> bool:
    """Shrink the file by its free pages, up to `pages`; say whether there are more."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, pages)):
        connection.execute("PRAGMA incremental_vacuum")  # Python's driver takes one step of it: one page
    return bool(free > pages)


@contextmanager
def beyond_quota(connection: sqlite3.Connection) -> Iterator[None]:
    """Allow the writes inside, in one transaction, to exceed their caller's quota."""
    connection.execute("INSERT INTO temp.beyond_quota VALUES (1)")
    yield
    connection.execute("DELETE FROM temp.beyond_quota")  # or the transaction is rolled back


def _migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that the file has not taken yet. Raises StorageUnavailable for a newer gateway's."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == len(MIGRATIONS):
        return  # On a full disk, not even the same number can be written.
    if version > len(MIGRATIONS):
        raise StorageUnavailable(
            f"nothing can be stored: the state file has version {version}; "
            f"this gateway supports up to {len(MIGRATIONS)}"
        )
    for step in MIGRATIONS[version:]:
        # `executescript` would commit the transaction, which makes the step whole.
        for statement in step.split(";\n"):
            if statement.strip():
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _is_full(error: sqlite3.OperationalError) -> bool:
    """Say whether a full disk may be the reason: not each of SQLite's files fails by that name."""
    code = error.sqlite_errorcode & 0xFF
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def _told(error: Exception, max_bytes_per_caller: int | None) -> GatewayError | None:
    """Return the client's error for a failing disk; None for any other error, which is a bug."""
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
