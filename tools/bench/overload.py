"""Overload: requests arrive at 0.5 to 4 times what a server can do, whatever comes back (an open loop).

`make bench ARGS=--overload`. First a closed loop measures each server's capacity. A client waits 2 s, as
OpenAI's with `timeout=2` does, then closes its connection. Goodput is complete answers within these 2 s.
"""

import asyncio
import gc
import json
import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from time import perf_counter

import uvloop
from rich.console import Console
from rich.table import Table

from engine_config import profile as profiles
from tools.bench import closed_loop, figures, processes, report, servers
from tools.bench.bodies import KINDS, Requests, endless
from tools.bench.connection import Exchange, Pool
from tools.bench.servers import Server
from tools.bench.workloads import HEAD

TIMES = (0.5, 1.0, 2.0, 4.0)  # of the capacity
QUICK_TIMES = (0.5, 2.0)
WITHIN = 2.0  # seconds
FILL, SECONDS, QUICK_SECONDS = 4.0, 20.0, 8.0  # until the queue is as long as it gets; the window
AT_ONCE = 64  # requests, for the capacity: more than the demo's engine runs at once
KIND = KINDS["text"]
REFUSED = frozenset({429, 503})
# What OpenAI's client sends with `timeout=2`.
PATIENT = HEAD.replace("\r\n\r\n", f"\r\nX-Stainless-Read-Timeout: {WITHIN:g}\r\n\r\n")


@dataclass(frozen=True, slots=True)
class Offered:
    """What came of the requests that were due in a window of `seconds`, at `rate` a second."""

    times: float  # the capacity
    rate: float
    seconds: float
    sent: int
    good: int  # complete within WITHIN
    late: int  # dropped by the client
    refused: int  # 429 or 503
    failed: int  # anything else
    refusal_ms_p50: float  # until a refusal came
    refusal_ms_p99: float
    good_ms_p99: float
    cpu: float  # seconds of the server's process in the window
    lag: float  # seconds that the client sent a request late, at most

    @property
    def goodput(self) -> float:
        """Return the good answers a second."""
        return self.good / self.seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """A request, when it was due, and what came back; `given_up` if the client stopped waiting."""

    due: float
    exchange: Exchange
    given_up: bool


def arrivals(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Return the times of a Poisson process of `rate` a second, from 0 until `seconds`."""
    rng = random.Random(seed)
    # Half as many again as expected, and more for few: the rest is cut off.
    gaps = (rng.expovariate(rate) for _ in range(int(1.5 * rate * seconds) + 50))
    return [at for at in accumulate(gaps) if at < seconds]


async def open_loop(port: int, requests: Requests, due: Sequence[float]) -> tuple[list[Sent], float]:
    """Send each request when it is due, and give it up after WITHIN; also return the longest lag.

    `due` are times of `perf_counter`, in seconds.
    """
    pool = Pool(port)
    sent: list[Sent] = []
    longest = 0.0

    async def one(at: float) -> None:
        nonlocal longest
        await asyncio.sleep(at - perf_counter())
        longest = max(longest, perf_counter() - at)
        exchange, given_up = Exchange(at), False
        try:
            async with asyncio.timeout(at + WITHIN - perf_counter()):
                await pool.ask(next(requests), exchange)
        except TimeoutError:
            given_up = True
        except OSError:
            exchange.status = closed_loop.BROKEN
        sent.append(Sent(at, exchange, given_up))

    await asyncio.gather(*(one(at) for at in due))
    pool.close()
    return sent, longest


def count(sent: Sequence[Sent], begin: float, end: float) -> Offered:
    """Return what came of the requests that were due from `begin` to `end`."""
    inside = [one for one in sent if begin <= one.due < end]
    answered = [one for one in inside if not one.given_up]
    waits = [1000 * (one.exchange.ended - one.due) for one in answered if one.exchange.status in REFUSED]
    good = [1000 * (one.exchange.ended - one.due) for one in answered if _is_good(one)]
    return Offered(
        times=0.0,
        rate=0.0,
        seconds=end - begin,
        sent=len(inside),
        good=len(good),
        late=len(inside) - len(answered),
        refused=len(waits),
        failed=len(answered) - len(waits) - len(good),
        refusal_ms_p50=figures.percentile(waits, 50),
        refusal_ms_p99=figures.percentile(waits, 99),
        good_ms_p99=figures.percentile(good, 99),
        cpu=0.0,
        lag=0.0,
    )


def _is_good(one: Sent) -> bool:
    with suppress(ValueError):
        figures.read(one.exchange)
        return one.exchange.ended - one.due <= WITHIN
    return False


def refusal_cpu_ms(calm: Offered, flooded: Offered) -> float | None:
    """Return the CPU time of a refusal in ms: what `flooded` used beyond its answers, at the cost in `calm`.

    Requests that clients gave up count as refusals: they used the server's time, too.
    """
    turned_away = flooded.refused + flooded.late
    if not turned_away or not calm.good:
        return None
    return 1000 * (flooded.cpu - flooded.good * calm.cpu / calm.good) / turned_away


async def measure(server: Server, requests: Requests, times: float, rate: float, seconds: float) -> Offered:
    """Offer `rate` requests a second; count those due from FILL on, for `seconds`.

    The load goes on until the last of them is answered or given up.
    """
    gc.collect()
    gc.disable()
    began = perf_counter()
    due = [began + at for at in arrivals(rate, FILL + seconds + WITHIN)]
    try:
        sending = asyncio.create_task(open_loop(server.port, requests, due))
        await asyncio.sleep(FILL)
        with processes.use(server.pid) as used:
            await asyncio.sleep(seconds)
        sent, lag = await sending
    finally:
        gc.enable()
    found = count(sent, began + FILL, began + FILL + seconds)
    return replace(found, times=times, rate=rate, cpu=used.seconds.get("server", 0.0), lag=lag)


def run(profile: str, folder: Path, console: Console, *, quick: bool) -> dict[str, list[Offered]]:
    """Measure both servers at all loads, print each, and write overload.json to `folder`."""
    times, seconds = (QUICK_TIMES, QUICK_SECONDS) if quick else (TIMES, SECONDS)
    found: dict[str, list[Offered]] = {}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as client:
        for name in servers.NAMES:
            with servers.running(name, profile, folder / f"{name}.log") as server:
                capacity = client.submit(_capacity, server, profile, seconds).result()
                console.print(f"{name}: {capacity:.1f} requests/s with {AT_ONCE} at once")
                for load in times:
                    processes.settle(server.pid, seconds)
                    offered = client.submit(_offer, server, profile, load, capacity * load, seconds).result()
                    found.setdefault(name, []).append(offered)
                    console.print(f"  {offered}", highlight=False)
    written = {
        "machine": report.machine(),
        "within": WITHIN,
        "servers": {name: [asdict(offered) for offered in loads] for name, loads in found.items()},
    }
    (folder / "overload.json").write_text(json.dumps(written, indent=1) + "\n")
    return found


def show(found: dict[str, list[Offered]], console: Console) -> None:
    """Print what came of each load, by server."""
    table = Table(title=f"Text of {KIND.tokens} tokens, open loop; good: complete within {WITHIN:g} s")
    columns = (
        "server",
        "load",
        "offered/s",
        "good/s",
        "of 1×",
        "p99 of good (ms)",
        "late",
        "refused",
        "failed",
    )
    for column in (*columns, "refusal p50, p99 (ms)", "CPU of one (ms)", "client late (ms)"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for name, loads in found.items():
        full = next((offered.goodput for offered in loads if offered.times == 1.0), 0.0)
        for offered in loads:
            cost = refusal_cpu_ms(loads[0], offered)
            table.add_row(
                name,
                f"{offered.times:g} ×",
                f"{offered.sent / offered.seconds:.1f}",
                f"{offered.goodput:.1f}",
                f"{offered.goodput / full:.2f}" if full else "",
                f"{offered.good_ms_p99:.0f}",
                f"{offered.late}",
                f"{offered.refused}",
                f"{offered.failed}",
                f"{offered.refusal_ms_p50:.1f}, {offered.refusal_ms_p99:.1f}" if offered.refused else "",
                "" if cost is None else f"{cost:.2f}",
                f"{1000 * offered.lag:.0f}",
            )
    console.print(table)


def _capacity(server: Server, profile: str, seconds: float) -> float:
    """Return the requests a second that `server` answers with AT_ONCE at once."""

    async def answered() -> float:
        point = await closed_loop.measure(server.port, server.pid, _requests(profile), AT_ONCE, seconds)
        return point.figures["tokens_per_s"] / KIND.tokens

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(answered())


def _offer(server: Server, profile: str, times: float, rate: float, seconds: float) -> Offered:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure(server, _requests(profile), times, rate, seconds))


@cache
def _requests(profile: str) -> Requests:
    return endless(KIND, profiles.load(profile).served_name, PATIENT)
