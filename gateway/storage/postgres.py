"""The storage in PostgreSQL, shared by gateways on several hosts. It runs the same statements as SQLite.

One thread with one connection uses it. Only one transaction of all gateways writes at a time, as in an SQLite
file, so a transaction that reads and then writes needs no other lock.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, TypeVar

import psycopg
import structlog
from psycopg import errors

from gateway.errors import GatewayError, InvalidValue, StorageFull, StorageUnavailable
from gateway.storage.database import Connection, Cursor, Database, quota_exceeded
from gateway.storage.postgres_schema import FULL, MIGRATIONS, NAME, QUOTA, SESSION

CONNECT_TIMEOUT: Final = 5  # seconds
LOCK_TIMEOUT: Final = "5s"  # maximum wait for another gateway that writes
STATEMENT_TIMEOUT: Final = "60s"
# Keys of PostgreSQL's advisory locks, used by this application only.
WRITES, BATCHES = 0x6C6C617661_01, 0x6C6C617661_02

_T = TypeVar("_T")
# Differences between SQLite's SQL and PostgreSQL's, in our statements.
_DIALECT: Final = (
    (re.compile(r"\?"), "%s"),
    (re.compile(r"(?<![:\w]):([a-z_]+)"), r"%(\1)s"),
    (re.compile(r"\bx''"), "''::bytea"),
    (re.compile(r"\bifnull\("), "coalesce("),
    (re.compile(r"\bmax\(0, "), "greatest(0, "),
    (re.compile(r"\btemp\."), "pg_temp."),
)

# Errors that are not bugs, the most specific ones first.
_REASONS: Final[dict[tuple[type[psycopg.Error], ...], str]] = {
    (errors.LockNotAvailable,): "is being written by another gateway",
    (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction): "does not let this gateway write",
    (psycopg.OperationalError, psycopg.InterfaceError): "cannot be reached",
}

log = structlog.get_logger()


class Postgres(Database):
    """The database at `url`, a PostgreSQL connection URI (https://www.postgresql.org/docs/current/libpq-connect.html).

    All callers together may store `max_bytes`, each caller `max_bytes_per_caller`.
    """

    def __init__(self, url: str, max_bytes: int, max_bytes_per_caller: int | None = None) -> None:
        super().__init__(None, max_bytes, max_bytes_per_caller)
        self._url = url
        self._session: psycopg.Connection | None = None
        self._has_batches = False

    def exists(self) -> bool:
        """Return True: another gateway may have stored something."""
        return True

    async def renew_reserve(self) -> None:
        """Do nothing: the server manages its disk."""

    def _claim_batches(self) -> bool:
        session = self._connected()
        if not self._has_batches:
            row = session.execute("SELECT pg_try_advisory_lock(%s)", (BATCHES,)).fetchone()
            session.commit()
            self._has_batches = row == (True,)
        return self._has_batches

    def _transaction(self, begin: str, frees: bool, work: Callable[[Connection], _T]) -> _T:  # noqa: ARG002
        try:
            session = self._connected()
            with session.transaction():
                if begin == "BEGIN":
                    session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                else:
                    session.execute("SELECT pg_advisory_xact_lock(%s)", (WRITES,))
                result = work(_Statements(session))
        except psycopg.Error as error:
            reported = _client_error(error, self._max_bytes_per_caller)
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                self._close()
            if reported is None:
                raise
            if isinstance(reported, StorageUnavailable) and self._logged != reported.message:
                self._logged = reported.message
                log.error("storage_failed", reason=str(error).strip())  # noqa: TRY400  # expected: no traceback
            raise reported from error
        self._logged = None
        return result

    def _connected(self) -> psycopg.Connection:
        if self._session is None or self._session.closed:
            self._has_batches = False
            session = psycopg.connect(self._url, connect_timeout=CONNECT_TIMEOUT, autocommit=False)
            try:
                _set_up(session, self._max_bytes, self._max_bytes_per_caller)
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session

    def _shrink(self, pages: int) -> bool:  # noqa: ARG002
        """Do nothing: the server's autovacuum returns free pages."""
        return False

    def _close(self) -> None:
        session, self._session = self._session, None
        self._has_batches = False
        if session is not None:
            with suppress(psycopg.Error):
                session.close()


class _Statements:
    """Runs SQLite's statements on PostgreSQL."""

    def __init__(self, session: psycopg.Connection) -> None:
        self._session = session

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Cursor:
        return self._session.execute(_translated(sql), parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Cursor:
        cursor = self._session.cursor()
        cursor.executemany(_translated(sql), rows)
        return cursor


@lru_cache(maxsize=256)
def _translated(sql: str) -> bytes:
    for pattern, replacement in _DIALECT:
        sql = pattern.sub(replacement, sql)
    return sql.encode()


def _set_up(session: psycopg.Connection, max_bytes: int, max_bytes_per_caller: int | None) -> None:
    """Bring the schema up to date, and set this session's limits."""
    session.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    session.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'")
    session.execute(f"SET search_path TO {NAME}")
    session.commit()
    with session.transaction():
        session.execute("SELECT pg_advisory_xact_lock(%s)", (WRITES,))  # Several gateways may start at once.
        _migrate(session)
    session.execute(SESSION)
    session.execute("INSERT INTO pg_temp.limits VALUES (%s, %s)", (max_bytes, max_bytes_per_caller))
    session.commit()


def _migrate(session: psycopg.Connection) -> None:
    """Run the migrations that the database lacks. Raises StorageUnavailable if a newer gateway wrote it."""
    session.execute(f"CREATE SCHEMA IF NOT EXISTS {NAME}")
    session.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    row = session.execute("SELECT version FROM schema_version").fetchone()
    version = row[0] if row else 0
    if version > len(MIGRATIONS):
        raise StorageUnavailable(
            f"nothing can be stored: the database has version {version}; "
            f"this gateway supports up to {len(MIGRATIONS)}"
        )
    for migration in MIGRATIONS[version:]:
        session.execute(migration.encode())
    if version < len(MIGRATIONS):
        session.execute("DELETE FROM schema_version")
        session.execute("INSERT INTO schema_version VALUES (%s)", (len(MIGRATIONS),))


def _client_error(error: psycopg.Error, max_bytes_per_caller: int | None) -> GatewayError | None:
    """Return the error that clients get, or None for a bug."""
    if error.sqlstate == QUOTA:
        return quota_exceeded(max_bytes_per_caller)
    if error.sqlstate == FULL or isinstance(error, errors.DiskFull):
        return StorageFull("the storage is full; delete files that are no longer needed")
    if isinstance(error, psycopg.DataError):
        return InvalidValue("names in stored data may not contain the character U+0000")
    for kinds, reason in _REASONS.items():
        if isinstance(error, kinds):
            return StorageUnavailable(f"nothing can be stored: the database {reason}")
    return None


def url_problem(url: str) -> str | None:
    """Return what is wrong with GATEWAY_STATE_URL, without its password, or None."""
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        found = False
    else:
        found = url.startswith(("postgresql://", "postgres://"))
    return None if found else "GATEWAY_STATE_URL: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
