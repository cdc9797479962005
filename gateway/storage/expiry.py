"""Deletes what has expired, a little at a time."""

import asyncio
import sqlite3
import time

import structlog

from gateway.errors import StorageFull, StorageUnavailable
from gateway.storage.database import Database, give_back
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
    """Delete everything that expired by `now` (Unix seconds); return the number of rows."""
    total = 0
    while deleted := await database.free(_step, now):
        total += deleted
    while await database.free(give_back, PAGES):
        pass
    await database.renew_reserve()
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
