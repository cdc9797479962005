"""Deletes expired files, batches and responses, a few at a time."""

import asyncio
import time

import structlog

from gateway.errors import StorageFull, StorageUnavailable
from gateway.storage.database import Connection, Database
from gateway.storage.migrations import EXPIRING

EVERY = 60.0  # seconds between two runs
ROWS = 100  # deleted in one transaction: requests that use the storage wait at most that long
PAGES = 2_000  # returned to the disk in one transaction

log = structlog.get_logger()


async def run(database: Database) -> None:
    """Delete what expires until cancelled; failures are logged and retried."""
    while True:
        try:
            if database.exists():
                await delete_expired(database, int(time.time()))
        except (StorageUnavailable, StorageFull) as error:
            log.warning("expiry_failed", reason=error.message)
        except Exception:
            log.exception("expiry_failed")
        await asyncio.sleep(EVERY)


async def delete_expired(database: Database, now: int) -> int:
    """Delete all that has expired by `now` (Unix seconds); return the number of rows."""
    total = 0
    while deleted := await database.free(_step, now):
        total += deleted
    while await database.shrink(PAGES):
        pass
    await database.renew_reserve()
    return total


def _step(connection: Connection, now: int) -> int:
    deleted = 0
    for table in EXPIRING:
        cursor = connection.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE expires_at <= ? LIMIT ?)",  # noqa: S608  # our own table names
            (now, ROWS),
        )
        deleted += cursor.rowcount
    return deleted
