"""Runs one batch: validating → in_progress → finalizing → completed, failed, expired or cancelled."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.access.fair_semaphore import FairSemaphore
from gateway.batches import output
from gateway.batches.input import Input
from gateway.batches.line import Lines, caller_of
from gateway.batches.line_scheduler import LinePermit, LineScheduler
from gateway.errors import StorageFull, StorageQuotaExceeded, StorageUnavailable
from gateway.schema.batches import BatchStatus, LineError, RequestCounts
from gateway.settings import Settings
from gateway.storage.batches import Batches, Owned, Waiting
from gateway.storage.database import Database
from gateway.storage.files import Files
from gateway.telemetry.metrics import Metrics

RETRY_AFTER: Final = 10.0  # seconds until a batch is run again after a storage error
MAX_WAIT: Final = 10**6  # seconds that a batch waits to read or write its file
REVOKED: Final = LineError("api_key_revoked", "The API key that made this batch is no longer valid.")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of batches and their files."""

    database: Database
    batches: Batches
    files: Files


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts that all batches share. `is_known` returns whether a caller may still send requests."""

    stores: Stores
    lines: Lines
    line_scheduler: LineScheduler
    settings: Settings
    metrics: Metrics
    model: str
    is_known: Callable[[str], bool]
    # One file is read or written at a time, because a line may have megabytes; callers take turns.
    file_access: FairSemaphore = field(
        default_factory=lambda: FairSemaphore(1, reserve=0, max_waiting=10**6, max_wait=MAX_WAIT)
    )


class BatchRun:
    """Runs a batch from its current status until it ends or is stopped."""

    def __init__(self, owned: Owned, shared: Shared) -> None:
        self._owned = owned
        self._shared = shared
        self._batches = shared.stores.batches
        self._input = Input(shared.stores.batches, shared.stores.files, shared.settings.body_max_bytes)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Start no more lines. Running lines are still answered."""
        self._stopped.set()

    def is_over(self, now: Owned) -> bool:
        """Return whether the batch, in its stored state `now`, must end before all its lines are answered."""
        return now.batch.status == "cancelling" or self._expired() or self._revoked()

    async def run(self) -> None:
        """Run the batch. A storage error leaves it as it is, to be run again."""
        batch = self._owned.batch
        log.info("batch_begins", batch=batch.id, status=batch.status)
        try:
            if await self._run_lines():
                await self._finalize()
        except (StorageFull, StorageUnavailable) as error:
            log.warning("batch_waits", batch=batch.id, reason=error.message)
            await asyncio.sleep(RETRY_AFTER)
        except Exception:
            log.exception("batch_failed", batch=batch.id)
            with suppress(StorageFull, StorageUnavailable):
                await self._fail([LineError("internal_error", "The batch could not be run.")])

    async def _run_lines(self) -> bool:
        """Read the batch's input and answer its lines; return whether to finalize it."""
        batch = self._owned.batch
        if batch.status == "validating" and not await self._validate():
            return False
        if batch.status == "finalizing":
            return True
        try:
            await self._answer_lines()
        except StorageQuotaExceeded as error:
            # Not retried: a batch that waits for its caller's quota would delay other callers' batches.
            await self._batches.give_up(batch.id, LineError(error.code, error.message), _now())
        if self._revoked():
            await self._batches.give_up(batch.id, REVOKED, _now())
        # A batch with lines left was stopped so that other batches can run.
        return self._expired() or await self._batches.next_line(batch.id, 0) is None

    async def _validate(self) -> bool:
        """Read and store the batch's input; return whether it is valid."""
        batches, batch_id = self._batches, self._owned.batch.id
        try:
            async with self._shared.file_access.hold(caller_of(self._owned)):
                total, errors = await self._input.store(self._owned)
        except StorageQuotaExceeded as error:
            total, errors = 0, [LineError(error.code, error.message)]
        if self._revoked():
            errors = [REVOKED]
        if errors:
            await self._fail(errors)
            return False
        counts = RequestCounts(total)
        changes = {"status": "in_progress", "in_progress_at": _now(), "model": self._shared.model}
        if not await batches.update(batch_id, "validating", **changes, request_counts=counts):
            await batches.update(batch_id, "cancelling", request_counts=counts)
        return True

    async def _answer_lines(self) -> None:
        """Answer the lines without a result, until all have one or the batch is stopped."""
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                await self._start_lines(group)
        except* (StorageFull, StorageUnavailable) as failed:
            failure = failed.exceptions[0]
        if failure is not None:  # Python 3.11.2 puts what is raised inside `except*` into another group.
            raise failure from None

    async def _start_lines(self, group: asyncio.TaskGroup) -> None:
        after = 0
        while not (self._stopped.is_set() or self._expired() or self._revoked()):
            waiting = await self._batches.next_line(self._owned.batch.id, after)
            if waiting is None:
                return
            # A line that was running when a process died runs alone: if it dies again, the cause is known.
            permit = await self._shared.line_scheduler.take(
                self._owned.caller, self._stopped, alone=waiting.attempts > 0
            )
            if permit is None:
                return
            after = waiting.number
            _release_at_end(permit, group.create_task(self._answer(waiting)))

    async def _answer(self, waiting: Waiting) -> None:
        owned, lines = self._owned, self._shared.lines
        async with AsyncExitStack() as held:
            await lines.reserve_memory(owned, waiting, held)
            outcome = await lines.answer(owned, waiting)
            if outcome is None:  # The batch was cancelled.
                return
            try:
                await self._batches.finish_line(owned.batch.id, waiting.number, outcome.json, outcome.used)
            except (StorageFull, StorageUnavailable):
                await lines.uncount_try(owned, waiting)
                raise
        self._shared.metrics.batch_lines.labels("failed" if outcome.used is None else "completed").inc()

    def _expired(self) -> bool:
        return _now() >= self._owned.batch.expires_at

    def _revoked(self) -> bool:
        return not self._shared.is_known(self._owned.caller)

    async def _fail(self, errors: list[LineError]) -> None:
        """End the batch without files."""
        changes = {
            "status": "failed",
            "errors": {"object": "list", "data": errors},
            "failed_at": _now(),
        }
        await self._batches.end(self._owned.batch.id, changes, (), _now() + self._shared.settings.state_ttl)

    async def _finalize(self) -> None:
        """Write the batch's output files and end it."""
        owned, batches = self._owned, self._batches
        batch = await batches.get(owned.batch.id, owned.caller)
        counts = batch.request_counts
        ends_as: BatchStatus = "completed"
        if batch.errors:
            ends_as = "failed"
        elif counts.completed + counts.failed < counts.total or batch.cancelling_at:
            ends_as = "cancelled" if batch.cancelling_at else "expired"
        if batch.finalizing_at is None:
            await batches.update(
                batch.id, "in_progress", "cancelling", status="finalizing", finalizing_at=_now()
            )
        reason = batch.errors["data"][0]["code"] if batch.errors else f"batch_{ends_as}"
        async with self._shared.file_access.hold(caller_of(owned)):
            answers, errors = await output.write(
                batches, self._shared.stores.files, batch.id, owned.caller, reason
            )
        changes = {
            "status": ends_as,
            "output_file_id": answers and answers.id,
            "error_file_id": errors and errors.id,
            f"{ends_as}_at": _now(),
        }
        uploads = [(file, file.created_at + owned.output_ttl) for file in (answers, errors) if file]
        await batches.end(batch.id, changes, uploads, _now() + self._shared.settings.state_ttl)
        log.info(
            "batch_ended", batch=batch.id, status=ends_as, completed=counts.completed, failed=counts.failed
        )


def _release_at_end(permit: LinePermit, task: asyncio.Task[None]) -> None:
    """Release `permit` when `task` ends, even if it is cancelled before it begins."""
    task.add_done_callback(lambda _: permit.release())


def _now() -> int:
    return int(time.time())
