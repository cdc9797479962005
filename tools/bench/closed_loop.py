"""A closed loop, limited by time: each of its workers sends the next request after its last answer."""

import asyncio
import gc
import resource
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from tools.bench import figures, processes
from tools.bench.bodies import Requests
from tools.bench.connection import Exchange, Pool
from tools.bench.figures import Figures, Timeline

WARM_UP, REST = 5, 1  # times the window's seconds, at most: warm-up, and waiting for the last answers
BACK_OFF = 0.1  # seconds after a refusal
BROKEN = -1  # as a status: the connection broke


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured with `at_once` requests at once, in a window of `seconds`."""

    at_once: int
    seconds: float
    figures: Figures
    cores: dict[str, float]  # kept busy, by process
    peak: dict[str, float]  # resident memory in MiB, by process
    requests: int  # sent in the window
    silent: int  # of these, without a first token when the loop was stopped: the times are lower bounds
    steady: bool  # whether the warm-up was complete: each worker had an answer
    failures: tuple[str, ...] = ()
    client_share: float = 0.0  # of one core

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class _Loop:
    """The workers, and everything that they sent."""

    def __init__(self, port: int, requests: Requests, at_once: int) -> None:
        self.pool = Pool(port)
        self.exchanges: list[Exchange] = []
        self.failures: list[str] = []
        self.warm = asyncio.Event()  # as many answers as workers have come
        self._requests = requests
        self._left = at_once
        self._stopping = False
        self.workers = [asyncio.create_task(self._work()) for _ in range(at_once)]

    async def _work(self) -> None:
        while not self._stopping:
            exchange = Exchange(perf_counter())
            self.exchanges.append(exchange)
            try:
                await self.pool.ask(next(self._requests), exchange)
            except OSError as error:
                exchange.status = BROKEN
                self.failures.append(repr(error))
            if exchange.status != 200:
                await asyncio.sleep(BACK_OFF)
            self._left -= 1
            if self._left <= 0:
                self.warm.set()

    async def stop(self, within: float) -> None:
        """Send nothing more, wait for the answers for `within` seconds, and drop the rest."""
        self._stopping = True
        _, late = await asyncio.wait(self.workers, timeout=within)
        for worker in late:
            worker.cancel()
        await asyncio.gather(*self.workers, return_exceptions=True)
        self.pool.close()


async def measure(port: int, group: int, requests: Requests, at_once: int, seconds: float) -> Point:
    """Measure the server on `port`, whose process group is `group`, in a window of `seconds`."""
    loop = _Loop(port, requests, at_once)
    with suppress(TimeoutError):
        await asyncio.wait_for(loop.warm.wait(), WARM_UP * seconds)
    steady = loop.warm.is_set()
    gc.collect()
    gc.disable()
    try:
        with processes.use(group) as used:
            cpu, begin = _cpu(), perf_counter()
            await asyncio.sleep(seconds)
            share, end = (_cpu() - cpu) / (perf_counter() - begin), perf_counter()
    finally:
        gc.enable()
    await loop.stop(REST * seconds)
    now = perf_counter()
    timelines: list[Timeline] = []
    for exchange in loop.exchanges:
        if exchange.status == BROKEN:
            continue
        try:
            timelines.append(figures.timeline(exchange, now))
        except ValueError as error:
            loop.failures.append(str(error))
    sent = [line for line in timelines if begin <= line.sent < end]
    return Point(
        at_once,
        end - begin,
        figures.of_window(timelines, begin, end),
        used.cores,
        used.peak,
        len(sent),
        sum(not line.content_at for line in sent),
        steady,
        tuple(loop.failures),
        share,
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
