"""Honest callers: texts and pictures, streamed and not streamed in turn, on kept connections."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp
import orjson

from tools.bench.pictures import photograph_jpeg
from tools.bench.workloads import LONG, SHORT, pictures, text
from tools.chaos.outcomes import ANSWERED, REFUSED, Ask, Ended, ask

CALLERS = 6
PAUSE = 0.05  # seconds between two requests of a caller
PATIENCE = 90.0  # seconds after which a request hangs; an engine's new start is well within
KEPT = 5  # endings that are kept to be told


@dataclass(slots=True)
class Tally:
    """How the requests of one fault ended."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds, of those answered
    hit: float | None = None  # when the fault struck, on the loop's clock
    recovered: float | None = None  # seconds from then to the first answer of a request sent after it
    odd: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return self.counts.total()

    def add(self, ended: Ended) -> None:
        self.counts[ended.outcome] += 1
        if ended.outcome == ANSWERED:
            self.slowest = max(self.slowest, ended.ended - ended.sent)
            if self.hit is not None and self.recovered is None and ended.sent >= self.hit:
                self.recovered = ended.ended - self.hit
        elif ended.outcome != REFUSED and len(self.odd) < KEPT:
            self.odd.append(f"{ended.outcome} after {ended.ended - ended.sent:.1f} s: {ended.said}")

    def strikes(self) -> None:
        """Note that the fault strikes now."""
        self.hit = asyncio.get_running_loop().time()


def asks(model: str, count: int) -> list[Ask]:
    """Return `count` texts and `count` pictures, each as a whole answer and as a stream, in turn."""
    shoot = partial(photograph_jpeg, width=336, height=336)
    texts = [one for (one,) in text(model, count, concurrency=1).conversations]
    shown = [one for (one,) in pictures(model, count, name="chaos", shoot=shoot, concurrency=1).conversations]
    made = []
    for number, (word, picture) in enumerate(zip(texts, shown, strict=True)):
        for one, tokens, stream in ((word, LONG, number % 2), (picture, SHORT, 1 - number % 2)):
            body = orjson.loads(one.body) | {"stream": bool(stream)}
            body.pop("stream_options", None)
            if stream:
                body["stream_options"] = {"include_usage": True}
            made.append(Ask(orjson.dumps(body), one.answer, tokens))
    return made


def session(url: str, key: str) -> aiohttp.ClientSession:
    """Return a client of the gateway at `url`."""
    return aiohttp.ClientSession(
        url,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    )


async def right_ones(url: str, key: str, made: Sequence[Ask]) -> list[Ask]:
    """Return those that the model answers right while nothing is wrong: it does not know every picture."""
    async with session(url, key) as client:
        return [one for one in made if (await ask(client, one, PATIENCE)).outcome == ANSWERED]


@asynccontextmanager
async def honest_load(url: str, key: str, made: Sequence[Ask]) -> AsyncIterator[Tally]:
    """Keep asking while the block runs; at its end every request that was sent comes to its own."""
    tally, ended = Tally(), asyncio.Event()
    coming = itertools.cycle(made)
    async with session(url, key) as client:
        callers = [asyncio.create_task(_call(client, coming, tally, ended)) for _ in range(CALLERS)]
        try:
            yield tally
        finally:
            ended.set()
            await asyncio.gather(*callers)


async def _call(
    client: aiohttp.ClientSession, coming: Iterator[Ask], tally: Tally, ended: asyncio.Event
) -> None:
    while not ended.is_set():
        last = await ask(client, next(coming), PATIENCE)
        tally.add(last)
        await asyncio.sleep(PAUSE + min(1.0, last.retry_after))


async def recovered(tally: Tally, within: float = 120.0) -> None:
    """Return once a request that was sent after the fault has its answer, or after `within` seconds."""
    try:
        async with asyncio.timeout(within):
            while tally.recovered is None:  # noqa: ASYNC110  # the tally knows no event
                await asyncio.sleep(0.05)
    except TimeoutError:
        tally.odd.append(f"no answer within {within:g} s of the fault")
