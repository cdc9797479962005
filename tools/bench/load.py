"""Runs a plan against a server, and says what was measured."""

import asyncio
import gc
import resource
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter

from tools.bench import figures
from tools.bench.connection import Exchange, Pool
from tools.bench.figures import Answer, Figures, Measured
from tools.bench.workloads import Ask, Load, Mixed, Plan

LAG_LIMIT = 0.01  # seconds that a probe may be sent late before a run is noted


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked and what came back; the first `timed` of it are what the times are taken of."""

    asks: list[Ask]
    exchanges: list[Exchange]
    timed: int
    extra: Figures
    notes: tuple[str, ...] = ()


async def measure(plan: Plan, port: int) -> Measured:
    """Run `plan`, its warm-up first, against the server on `port`."""
    pool = Pool(port)
    load = plan.pour if isinstance(plan, Mixed) else plan
    try:
        await _converse(pool, [(ask,) for ask in load.warm_up], load.concurrency)
        gc.collect()
        gc.disable()
        cpu, began = _cpu(), perf_counter()
        run = await (_probe(pool, plan) if isinstance(plan, Mixed) else _load(pool, plan))
        seconds = perf_counter() - began
        share = (_cpu() - cpu) / seconds
    finally:
        gc.enable()
        pool.close()
    return _measured(run, seconds, share)


async def _load(pool: Pool, plan: Load) -> Run:
    conversations = await _converse(pool, plan.conversations, plan.concurrency)
    asks = [ask for conversation in plan.conversations for ask in conversation]
    exchanges = [exchange for conversation in conversations for exchange in conversation]
    return Run(asks, exchanges, len(asks), figures.of_conversations(conversations))


async def _converse(
    pool: Pool, conversations: Iterable[Sequence[Ask]], concurrency: int
) -> list[list[Exchange]]:
    """Hold all conversations, `concurrency` at once, and return their exchanges in their order."""
    held: list[list[Exchange]] = []
    coming = iter(conversations)

    async def hold_one_after_the_other() -> None:
        for conversation in coming:
            exchanges: list[Exchange] = []
            held.append(exchanges)
            for ask in conversation:
                exchanges.append(await pool.ask(ask.request))  # noqa: PERF401  # each waits for the last

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(hold_one_after_the_other())
    return held


async def _probe(pool: Pool, plan: Mixed) -> Run:
    """Send each probe when it is due while the pictures pour in; the pictures' answers are judged too."""
    poured: list[tuple[Ask, Exchange]] = []
    coming = iter(plan.pour.conversations)

    async def pour() -> None:
        for (ask,) in coming:
            poured.append((ask, await pool.ask(ask.request)))

    pouring = [asyncio.create_task(pour()) for _ in range(plan.pour.concurrency)]
    began = perf_counter()
    probes, lag = await open_loop(pool.ask, plan.probes, plan.rate)
    seconds = perf_counter() - began
    ran_out = all(task.done() for task in pouring)
    for task in pouring:
        task.cancel()
    for ended in await asyncio.gather(*pouring, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    notes = ["the pictures ran out before the probes ended"] if ran_out else []
    if lag > LAG_LIMIT:
        notes.append(f"the client sent a probe {1000 * lag:.0f} ms late")
    return Run(
        asks=[*plan.probes, *(ask for ask, _ in poured)],
        exchanges=[*probes, *(exchange for _, exchange in poured)],
        timed=len(probes),
        extra={"pictures_per_s": len(poured) / seconds},
        notes=tuple(notes),
    )


async def open_loop(
    send: Callable[[bytes], Awaitable[Exchange]], asks: Sequence[Ask], rate: float
) -> tuple[list[Exchange], float]:
    """Send the requests `rate` a second, whatever comes back; return the exchanges and the longest lag (s).

    A probe's time counts from when it was due: one that cannot be sent for want of time has waited, too.
    """
    began = perf_counter()
    longest = 0.0

    async def one(number: int, ask: Ask) -> Exchange:
        nonlocal longest
        due = began + number / rate
        await asyncio.sleep(due - perf_counter())
        longest = max(longest, perf_counter() - due)
        exchange = await send(ask.request)
        exchange.sent = due
        return exchange

    return list(await asyncio.gather(*(one(number, ask) for number, ask in enumerate(asks)))), longest


def _measured(run: Run, seconds: float, share: float) -> Measured:
    answers: list[Answer | None] = []
    failures: list[str] = []
    for exchange in run.exchanges:
        try:
            answers.append(figures.read(exchange))
        except ValueError as error:
            answers.append(None)
            failures.append(str(error))
    good = [answer for answer in answers if answer]
    lengths = [answer.completion_tokens for answer in good] or [0]
    return Measured(
        figures=figures.of_answers([one for one in answers[: run.timed] if one], seconds) | run.extra,
        seconds=seconds,
        requests=len(run.asks),
        failures=tuple(failures),
        right=figures.share_right(run.asks, answers),
        completion_tokens=(min(lengths), max(lengths)),
        prompt_tokens=sum(answer.prompt_tokens for answer in good),
        client_share=share,
        notes=run.notes,
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
