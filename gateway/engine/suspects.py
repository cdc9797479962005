"""Finds the jobs that kill the engine, and refuses them.

All that ran when it died are suspected for a while. A suspect that comes again runs before anything else
begins: until its first delta no other job waits for its own. One that runs to its end is cleared.

That a job ran when the engine died proves little: something else may have killed it. A first death makes a
suspect. Another one counts against it in full where it ran alone, or with the same company as in a death
before; by half where the others had all given something; and else not at all.
"""

import asyncio
import hashlib
import time
from array import array
from collections import deque
from dataclasses import dataclass, field

from gateway.engine.interface import Engine, Job
from gateway.errors import PoisonRequest

KEPT = 600.0  # seconds that a job is suspected
MOST = 10_000  # suspects that are kept
DEADLY = 2.0  # deaths that count, after which a job is refused
HALF = 0.5
COMPANIES = 8  # of a suspect that are kept

Company = frozenset[bytes]


@dataclass(slots=True, eq=False)
class Trial:
    """One run of a job."""

    job: Job
    key: bytes
    engine: Engine | None = None  # that it runs on
    proven: bool = False  # whether that has given something


@dataclass(slots=True, eq=False)
class _PendingTrial:
    """A trial that must wait before it begins."""

    trial: Trial
    admitted: asyncio.Future[None]


@dataclass(slots=True)
class _Record:
    until: float
    evidence: float = 1.0
    deaths: int = 1
    companies: deque[Company] = field(default_factory=lambda: deque(maxlen=COMPANIES))


class Suspects:
    """Running jobs, and the suspects: jobs that ran when the engine died."""

    def __init__(self) -> None:
        self._running: set[Trial] = set()
        self._records: dict[bytes, _Record] = {}
        self._first: _PendingTrial | None = None  # the suspect whose turn it is
        self._suspects: deque[_PendingTrial] = deque()  # that wait for their turn
        self._others: deque[_PendingTrial] = (
            deque()
        )  # that wait for the first delta of the one whose turn it is

    async def enter(self, job: Job) -> Trial:
        """Return a trial of `job` when it may begin. Raises PoisonRequest where the engine has died of it."""
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
        """Note that the job runs on `engine` from now on."""
        trial.engine = engine

    def survived(self, trial: Trial) -> None:
        """Note that the engine has given something: the next suspect may run."""
        trial.proven = True
        self._end_turn(trial)

    def finished(self, trial: Trial) -> None:
        """Clear the job: it ran to its end, so what killed the engine before was another."""
        if self._records:
            self._records.pop(trial.key or _key(trial.job), None)

    def leave(self, trial: Trial) -> None:
        """End the run, however it went."""
        self._running.discard(trial)
        self._end_turn(trial)

    def engine_died(self, engine: Engine) -> None:
        """Suspect all that ran on `engine`, and weigh the death against those that were suspected before."""
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
        """Give a suspect the turn if it is free; it begins once all that run have given something."""
        if self._first is None and self._suspects:
            self._first = self._suspects.popleft()
        first = self._first
        if first is None or first.admitted.done() or any(not trial.proven for trial in self._running):
            return
        self._admit(first)

    def _end_turn(self, trial: Trial) -> None:
        """End the turn if it was this trial's: those who waited begin, and the next suspect after them."""
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
        """Let the others go on without one that was cancelled."""
        for queue in (self._suspects, self._others):
            if waiting in queue:
                queue.remove(waiting)
        self.leave(waiting.trial)


def _key(job: Job) -> bytes:
    """Return a hash over all that the engine gets of a job but its name."""
    digest = hashlib.blake2b(array("q", job.token_ids).tobytes(), digest_size=16)
    for picture in job.pictures:
        digest.update(picture.key.encode())
    constraint = job.sampling.constraint.grammar if job.sampling.constraint else ""
    digest.update(f"{job.sampling!r}{constraint}".encode("utf-8", "surrogatepass"))
    return digest.digest()
