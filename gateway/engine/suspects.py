"""Which jobs may have killed the engine.

All that ran when it died are suspected for a while. A suspect that comes again runs alone until its first
delta; one that runs to its end is cleared. A job that the engine has died of twice is refused from then on.
"""

import asyncio
import hashlib
import time
from array import array
from dataclasses import dataclass

from gateway.engine.interface import Job
from gateway.errors import PoisonRequest

KEPT = 600.0  # seconds that a job is suspected
MOST = 10_000  # suspects that are kept
DEADLY = 2  # deaths after which a job is refused


@dataclass(slots=True, eq=False)
class Trial:
    """One run of a job."""

    job: Job
    alone: bool = False


@dataclass(slots=True)
class _Record:
    deaths: int
    until: float


class Suspects:
    """The jobs that run, and those that ran when the engine died."""

    def __init__(self) -> None:
        self._running: set[Trial] = set()
        self._records: dict[bytes, _Record] = {}
        self._turn = asyncio.Lock()

    async def enter(self, job: Job) -> Trial:
        """Begin a run of `job`. Raises PoisonRequest where the engine has died of it twice."""
        trial = Trial(job)
        if self._records and (record := self._record(job)) is not None:
            if record.deaths >= DEADLY:
                raise PoisonRequest(
                    f"the engine has died {record.deaths} times while it ran this request; it is refused for "
                    f"{record.until - time.monotonic():.0f} s"
                )
            await self._turn.acquire()
            trial.alone = True
        self._running.add(trial)
        return trial

    def survived(self, trial: Trial) -> None:
        """Note that the engine has given something: the next suspect may run."""
        if trial.alone:
            trial.alone = False
            self._turn.release()

    def finished(self, trial: Trial) -> None:
        """Clear the job: it ran to its end, so what killed the engine before was another."""
        if self._records:
            self._records.pop(_key(trial.job), None)

    def leave(self, trial: Trial) -> None:
        self._running.discard(trial)
        self.survived(trial)

    def engine_died(self) -> None:
        """Suspect the job that ran alone or, where none did, all that ran."""
        now = time.monotonic()
        suspected = [trial for trial in self._running if trial.alone] or list(self._running)
        for key in {_key(trial.job) for trial in suspected}:
            deaths = self._records[key].deaths if key in self._records else 0
            self._records[key] = _Record(deaths + 1, now + KEPT)
        self._records = {key: record for key, record in self._records.items() if record.until > now}
        while len(self._records) > MOST:
            del self._records[next(iter(self._records))]

    def _record(self, job: Job) -> _Record | None:
        record = self._records.get(_key(job))
        return record if record is not None and record.until > time.monotonic() else None


def _key(job: Job) -> bytes:
    """Return a hash over all that the engine gets of a job but its name."""
    digest = hashlib.blake2b(array("q", job.token_ids).tobytes(), digest_size=16)
    for picture in job.pictures:
        digest.update(picture.key.encode())
    digest.update(repr(job.sampling).encode("utf-8", "surrogatepass"))
    return digest.digest()
