"""Runs stored batches: validating → in_progress → finalizing → completed, or one of the other ends.

What was done is in the storage after every step, so a process that ends, however it ends, is followed by one
that goes on: a line whose result is stored is not answered again, one without is.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.access.memory import COPIES, keep
from gateway.batches import output
from gateway.batches.gate import Gate
from gateway.batches.input import Input
from gateway.batches.line import Lines
from gateway.errors import StorageFull, StorageQuotaExceeded, StorageUnavailable
from gateway.schema.batches import InputLine, LineError, RequestCounts, Status
from gateway.settings import Settings
from gateway.storage.batches import Batches, Owned
from gateway.storage.database import Database
from gateway.storage.files import Files
from gateway.telemetry.metrics import Metrics

LOOK_EVERY: Final = 2.0  # seconds: another process may store a batch, or end while it runs some
BATCHES_AT_ONCE: Final = 8
AGAIN: Final = 10.0  # seconds until a batch goes on that the storage has stopped
LOCK: Final = "batches.lock"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stores:
    """Where batches and their files are."""

    database: Database
    batches: Batches
    files: Files


class BatchRunner:
    """Runs the batches of all callers. If several processes share a state directory, one of them does."""

    def __init__(
        self,
        stores: Stores,
        lines: Lines,
        gate: Gate,
        settings: Settings,
        metrics: Metrics,
        *,
        model: str,
        width: int,
    ) -> None:
        self._metrics = metrics
        self._stores = stores
        self._lines = lines
        self._gate = gate
        self._input = Input(stores.batches, stores.files, settings.body_max_bytes)
        self._settings = settings
        self._model = model
        self._width = width  # lines of one batch at once
        self._files_turn = asyncio.Lock()  # one batch's file at a time: a line may have megabytes
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look for new batches now."""
        self._woken.set()

    async def run(self) -> None:
        """Run batches until cancelled; failures are logged and retried."""
        running: dict[str, asyncio.Task[None]] = {}
        lock: int | None = None
        try:
            while True:
                try:
                    lock = self._locked() if lock is None else lock
                    if lock is not None:
                        await self._begin(running)
                except (StorageFull, StorageUnavailable):
                    pass  # The storage has told it in the log.
                except Exception:
                    log.exception("batches_not_begun")
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)
            if lock is not None:
                os.close(lock)

    def _locked(self) -> int | None:
        """Return the lock's descriptor, None where another process has it or nothing is stored yet."""
        if not self._stores.database.exists():
            return None
        try:
            descriptor = os.open(self._stores.database.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:  # The disk has become read-only.
            return None
        try:
            # The kernel releases it when the process ends, even by SIGKILL.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    async def _begin(self, running: dict[str, asyncio.Task[None]]) -> None:
        for batch_id in [batch_id for batch_id, task in running.items() if task.done()]:
            del running[batch_id]
        self._metrics.batch_lines_waiting.set(await self._stores.batches.lines_left())
        for owned in await self._stores.batches.unfinished(BATCHES_AT_ONCE):
            if owned.batch.id not in running:
                running[owned.batch.id] = asyncio.create_task(self._carry(owned))

    async def _carry(self, owned: Owned) -> None:
        """Take a batch from where it is to its end. A failing disk leaves it where it is."""
        batch, batches = owned.batch, self._stores.batches
        log.info("batch_begins", batch=batch.id, status=batch.status)
        try:
            if batch.status == "validating":
                await self._validate(owned)
            if batch.status != "finalizing":
                try:
                    await self._answer_lines(owned)
                except StorageQuotaExceeded as error:
                    # Its owner's affair: were it to wait for room, it would keep others' batches waiting.
                    await batches.give_up(batch.id, LineError(error.code, error.message), _now())
            await self._finalize(owned)
        except (StorageFull, StorageUnavailable) as error:
            log.warning("batch_waits", batch=batch.id, reason=error.message)
            await asyncio.sleep(AGAIN)
        except Exception:
            log.exception("batch_failed", batch=batch.id)
            failed = {"object": "list", "data": [LineError("internal_error", "The batch could not be run.")]}
            with suppress(StorageFull, StorageUnavailable):
                changes = {"status": "failed", "errors": failed, "failed_at": _now()}
                await batches.end(batch.id, changes, (), _now() + self._settings.state_ttl)
        self.wake()

    async def _validate(self, owned: Owned) -> None:
        batches, batch_id = self._stores.batches, owned.batch.id
        try:
            async with self._files_turn:
                total, errors = await self._input.store(owned)
        except StorageQuotaExceeded as error:
            total, errors = 0, [LineError(error.code, error.message)]
        if errors:
            told = {"object": "list", "data": errors}
            changes = {"status": "failed", "errors": told, "failed_at": _now()}
            await batches.end(batch_id, changes, (), _now() + self._settings.state_ttl)
            return
        counts = RequestCounts(total)
        changes = {"status": "in_progress", "in_progress_at": _now(), "model": self._model}
        if not await batches.update(batch_id, "validating", **changes, request_counts=counts):
            await batches.update(batch_id, "cancelling", request_counts=counts)

    async def _answer_lines(self, owned: Owned) -> None:
        """Answer the lines that have no result yet, until all have one or the batch is to end."""
        cursor = _Cursor(self._stores.batches, owned.batch.id, self._expired(owned))
        stopped: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._width):
                    group.create_task(self._answer_some(owned, cursor))
        except* (StorageFull, StorageUnavailable) as failed:
            stopped = failed.exceptions[0]
        if stopped is not None:  # Python 3.11.2 puts what is raised inside `except*` into another group.
            raise stopped from None

    async def _answer_some(self, owned: Owned, cursor: "_Cursor") -> None:
        while True:
            async with self._gate.place(), AsyncExitStack() as held:
                room = await self._lines.room(owned, held)
                line = await cursor.next()
                if line is None:
                    return
                keep(room, COPIES * len(line.request))
                outcome = await self._lines.answer(owned, line)
                await self._stores.batches.finish_line(
                    owned.batch.id, line.number, outcome.json, outcome.used
                )
                self._metrics.batch_lines.labels("failed" if outcome.used is None else "completed").inc()

    def _expired(self, owned: Owned) -> Callable[[], bool]:
        return lambda: _now() >= owned.batch.expires_at

    async def _finalize(self, owned: Owned) -> None:
        """Write the files of a batch whose lines are done, and end it."""
        stores, batch_id = self._stores, owned.batch.id
        batch = await stores.batches.get(batch_id, owned.caller)
        if batch.status == "failed":
            return
        counts = batch.request_counts
        ends_as: Status = "completed"
        if batch.errors:
            ends_as = "failed"
        elif counts.completed + counts.failed < counts.total or batch.cancelling_at:
            ends_as = "cancelled" if batch.cancelling_at else "expired"
        if batch.finalizing_at is None:
            await stores.batches.update(
                batch_id, "in_progress", "cancelling", status="finalizing", finalizing_at=_now()
            )
        async with self._files_turn:
            answers, errors = await output.write(
                stores.batches, stores.files, batch_id, owned.caller, ends_as
            )
        keep = self._settings.state_ttl
        changes = {
            "status": ends_as,
            "output_file_id": answers and answers.id,
            "error_file_id": errors and errors.id,
            f"{ends_as}_at": _now(),
        }
        uploads = [(file, file.created_at + owned.output_ttl) for file in (answers, errors) if file]
        await stores.batches.end(batch_id, changes, uploads, _now() + keep)
        log.info(
            "batch_ended", batch=batch_id, status=ends_as, completed=counts.completed, failed=counts.failed
        )


class _Cursor:
    """The lines of a batch that are to be answered, each given out once."""

    def __init__(self, batches: Batches, batch_id: str, ended: Callable[[], bool]) -> None:
        self._batches = batches
        self._batch_id = batch_id
        self._ended = ended
        self._after = 0
        self._turn = asyncio.Lock()

    async def next(self) -> InputLine | None:
        async with self._turn:
            if self._ended():
                return None
            line = await self._batches.next_line(self._batch_id, self._after)
            if line is not None:
                self._after = line.number
            return line


def _now() -> int:
    return int(time.time())
