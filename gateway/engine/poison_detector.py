"""Finds the jobs that kill the engine, and refuses them.

Every job that was running when the engine died is a suspect for KEPT seconds. When a suspect runs again, no
other job starts until the suspect has its first delta, and it starts when every running job has one. A
suspect that finishes is cleared.

One death proves little: another job may have caused it. It counts as 1 against each job. A later death adds 1
if the suspect ran alone or with the same jobs as in an earlier death, 0.5 if it was the only job without a
delta, and else nothing. A job with DEADLY evidence is refused.
"""

import asyncio
import hashlib
import time
from array import array
from collections import deque
from dataclasses import dataclass, field

from gateway.engine.interface import Engine, Job
from gateway.errors import PoisonRequest

KEPT = 600.0  # seconds that a job stays a suspect
MOST = 10_000  # suspects at most
DEADLY = 2.0  # evidence at which a job is refused
HALF = 0.5
COMPANIES = 8  # remembered per suspect, at most

Company = frozenset[bytes]  # keys of the jobs that ran at one death


@dataclass(slots=True, eq=False)
class Trial:
    """One run of a job."""

    job: Job
    key: bytes
    engine: Engine | None = None  # the one that runs it
    proven: bool = False  # whether it has had a delta


@dataclass(slots=True, eq=False)
class _PendingTrial:
    """A trial that waits to start."""

    trial: Trial
    admitted: asyncio.Future[None]


@dataclass(slots=True)
class _Record:
    until: float
    evidence: float = 1.0
    deaths: int = 1
    companies: deque[Company] = field(default_factory=lambda: deque(maxlen=COMPANIES))


class PoisonDetector:
    """Tracks running jobs, and the suspects among them."""

    def __init__(self) -> None:
        self._running: set[Trial] = set()
        self._records: dict[bytes, _Record] = {}
        self._first: _PendingTrial | None = None  # the suspect that runs next, or runs without a delta yet
        self._suspects: deque[_PendingTrial] = deque()  # waiting for their turn
        self._others: deque[_PendingTrial] = deque()  # waiting for the first delta of `_first`

    async def enter(self, job: Job) -> Trial:
        """Return a trial of `job` when it may start. Raises PoisonRequest if the job kills the engine."""
        trial = Trial(job, _key(job) if self._records else b"")
        if (record := self._record(trial)) is not None and record.evidence >= DEADLY:
            raise PoisonRequest(
                f"the engine has died {record.deaths} times while it ran this request; it is refused for "
                f"{record.until - time.monotonic():.0f} s"
            )
        if record is None and self._first is None:
            self._running.add(trial)
            return trial
        waiting = _PendingTrial(trial, asyncio.get_running_loop().create_future())
        (self._others if record is None else self._suspects).append(waiting)
        self._next()
        try:
            await waiting.admitted
        except asyncio.CancelledError:
            self._forget(waiting)
            raise
        return trial

    def begin(self, trial: Trial, engine: Engine) -> None:
        """Record that the job runs on `engine`."""
        trial.engine = engine

    def survived(self, trial: Trial) -> None:
        """Record the first delta: the next suspect may run."""
        trial.proven = True
        self._end_turn(trial)

    def finished(self, trial: Trial) -> None:
        """Clear the job: it finished, so another one killed the engine."""
        if self._records:
            self._records.pop(trial.key or _key(trial.job), None)

    def leave(self, trial: Trial) -> None:
        """Remove a trial that has ended, whether it finished or failed."""
        self._running.discard(trial)
        self._end_turn(trial)

    def engine_died(self, engine: Engine) -> None:
        """Make the jobs on `engine` suspects, and add evidence against those that already were."""
        now = time.monotonic()
        ran = [trial for trial in self._running if trial.engine is engine]
        for trial in ran:
            trial.key = trial.key or _key(trial.job)
        company = Company(trial.key for trial in ran)
        unproven = {trial.key for trial in ran if not trial.proven}
        self._records = {key: record for key, record in self._records.items() if record.until > now}
        for key in company:
            record = self._records.get(key)
            if record is None:
                record = self._records[key] = _Record(0.0)
            else:
                record.deaths += 1
                if len(company) == 1 or company in record.companies:
                    record.evidence += 1
                elif unproven == {key}:
                    record.evidence += HALF
            record.until = now + KEPT
            record.companies.append(company)
        while len(self._records) > MOST:
            del self._records[next(iter(self._records))]

    def _record(self, trial: Trial) -> _Record | None:
        record = self._records.get(trial.key)
        return record if record is not None and record.until > time.monotonic() else None

    def _next(self) -> None:
        """Pick the next suspect if there is none; start it once every running job has had a delta."""
        if self._first is None and self._suspects:
            self._first = self._suspects.popleft()
        first = self._first
        if first is None or first.admitted.done() or any(not trial.proven for trial in self._running):
            return
        self._admit(first)

    def _end_turn(self, trial: Trial) -> None:
        """If it was this trial's turn, start the jobs that wait for it, then the next suspect."""
        if self._first is not None and self._first.trial is trial:
            self._first = None
            while self._others:
                self._admit(self._others.popleft())
        if self._first is not None or self._suspects:
            self._next()

    def _admit(self, waiting: _PendingTrial) -> None:
        if not waiting.admitted.done():
            self._running.add(waiting.trial)
            waiting.admitted.set_result(None)

    def _forget(self, waiting: _PendingTrial) -> None:
        """Remove a waiting trial whose caller was cancelled."""
        for queue in (self._suspects, self._others):
            if waiting in queue:
                queue.remove(waiting)
        self.leave(waiting.trial)


def _key(job: Job) -> bytes:
    """Return a hash of everything in a job that reaches the engine, except its id."""
    digest = hashlib.blake2b(array("q", job.token_ids).tobytes(), digest_size=16)
    for picture in job.pictures:
        digest.update(picture.key.encode())
    constraint = job.sampling.constraint.grammar if job.sampling.constraint else ""
    digest.update(f"{job.sampling!r}{constraint}".encode("utf-8", "surrogatepass"))
    return digest.digest()
