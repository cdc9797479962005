"""Runs stored batches; callers take turns.

Each step is stored, so after a restart or a crash the next process continues: a line with a stored result is
not answered again.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from gateway.batches.batch_run import BatchRun, Shared
from gateway.errors import StorageFull, StorageUnavailable

CHECK_EVERY: Final = 2.0  # seconds: another process may store a batch, or end while it runs some
BATCHES_AT_ONCE: Final = 64  # of all callers; each caller's first batch comes before any second one
BATCHES_PER_CALLER: Final = 8

log = structlog.get_logger()


class BatchRunner:
    """Runs the batches of all callers. If several processes share a state directory, only one runs them."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._stores = shared.stores
        self._running: dict[str, tuple[BatchRun, asyncio.Task[None]]] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Check for new and cancelled batches now."""
        self._woken.set()

    async def run(self) -> None:
        """Run batches until cancelled; failures are logged and retried."""
        scheduling = asyncio.create_task(self._shared.line_scheduler.run())
        try:
            while True:
                try:
                    if await self._stores.database.claim_batches():
                        await self._start_and_stop()
                    else:
                        self._stop()
                except (StorageFull, StorageUnavailable):
                    pass  # The storage has logged it.
                except Exception:
                    log.exception("batches_not_started")
                with suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_EVERY):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            tasks = [scheduling, *(task for _, task in self._running.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self) -> None:
        """Stop running the batches: the connection was lost, and another process may run them now."""
        for run, _ in self._running.values():
            run.stop()

    async def _start_and_stop(self) -> None:
        """Start the batches that are next, and stop those that must end or wait for others."""
        batches = self._stores.batches
        self._shared.metrics.batch_lines_waiting.set(await batches.lines_left())
        found = await batches.unfinished(BATCHES_PER_CALLER, BATCHES_AT_ONCE)
        chosen = {owned.batch.id: owned for owned in found}
        self._running = {name: some for name, some in self._running.items() if not some[1].done()}
        for name, (run, _) in self._running.items():
            if name not in chosen or run.is_over(chosen[name]):
                run.stop()
        for name, owned in chosen.items():
            if name not in self._running:
                run = BatchRun(owned, self._shared)
                task = asyncio.create_task(run.run())
                task.add_done_callback(lambda _: self.wake())
                self._running[name] = run, task
