"""Deletes what has expired, a little at a time."""

import asyncio
import sqlite3
import time

import structlog

from gateway.errors import StorageFull, StorageUnavailable
from gateway.storage.database import Database
from gateway.storage.migrations import EXPIRING

EVERY = 60.0  # seconds between two sweeps
ROWS = 100  # deleted in one transaction: requests that need the storage wait for no longer than that
PAGES = 2_000  # given back to the disk in one transaction

log = structlog.get_logger()


async def sweep_forever(database: Database) -> None:
    """Sweep until cancelled; failures are logged and retried."""
    while True:
        try:
            if database.exists():
                await sweep(database, int(time.time()))
        except (StorageUnavailable, StorageFull) as error:
            log.warning("sweep_failed", reason=error.message)
        except Exception:
            log.exception("sweep_failed")
        await asyncio.sleep(EVERY)


async def sweep(database: Database, now: int) -> int:
    """Delete all that expired at `now` (Unix seconds) or before; return how many rows that were."""
    total = 0
    while deleted := await database.write(_step, now):
        total += deleted
    while await database.write(_give_back):
        pass
    return total


def _step(connection: sqlite3.Connection, now: int) -> int:
    deleted = 0
    for table in EXPIRING:
        cursor = connection.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE expires_at <= ? LIMIT ?)",  # noqa: S608  # our own names
            (now, ROWS),
        )
        deleted += cursor.rowcount
    return deleted


def _give_back(connection: sqlite3.Connection) -> bool:
    """Shrink the file by its free pages, up to PAGES; say whether there are more."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, PAGES)):
        connection.execute("PRAGMA incremental_vacuum")  # Python's driver takes one step of it: one page
    return bool(free > PAGES)
