"""What a batch costs live requests: their latency with one behind them and without, round about.

`python -m tools.bench.batch` starts the gateway, and for each rate of live requests (questions about pictures
of 336 px, sent open loop at random times) measures rounds in pairs: without a batch and with one, whose lines
have 64 tokens each.
"""

import argparse
import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

import orjson
from openai import AsyncOpenAI
from rich.console import Console
from rich.table import Table

from tests.servers import Gateway, served_gateway
from tools.bench.connection import Pool
from tools.bench.figures import percentile
from tools.bench.pictures import photograph_jpeg
from tools.bench.workloads import LONG, Ask, pictures

MODEL = "llava-demo"
ENDPOINT: Final = "/v1/chat/completions"
RATES = (2.0, 10.0)  # live requests a second


async def latencies(pool: Pool, asks: Sequence[Ask], rate: float, seed: int) -> list[float]:
    """Send `asks` at random times, `rate` a second on average; return their latencies in seconds."""
    chance = random.Random(seed)  # the same times for both of a pair
    began = perf_counter() + 0.1
    due = began
    sent = []

    async def one(ask: Ask, due: float) -> float:
        await asyncio.sleep(due - perf_counter())
        exchange = await pool.ask(ask.request)
        assert exchange.status == 200, exchange.body
        return exchange.ended - due

    for ask in asks:
        due += chance.expovariate(rate)
        sent.append(one(ask, due))
    return list(await asyncio.gather(*sent))


@asynccontextmanager
async def batch_behind(
    gateway: Gateway, bodies: Sequence[bytes], counted: list[float]
) -> AsyncIterator[None]:
    """Run a batch of `bodies` until the block ends; add to `counted` how many of its lines were answered."""
    lines = [
        orjson.dumps(
            {"custom_id": str(number), "method": "POST", "url": ENDPOINT, "body": orjson.loads(body)}
        )
        for number, body in enumerate(bodies)
    ]
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        file = await client.files.create(file=("in.jsonl", b"\n".join(lines)), purpose="batch")
        made = await client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")
        while (await client.batches.retrieve(made.id)).status != "in_progress":  # noqa: ASYNC110  # asked over HTTP
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)  # It is at its full width when the first request comes.
        yield
        ended = await client.batches.cancel(made.id)
        while ended.status in ("cancelling", "finalizing"):
            await asyncio.sleep(0.1)
            ended = await client.batches.retrieve(made.id)
        assert ended.request_counts is not None
        counted.append(ended.request_counts.completed)


def asked(name: str, count: int) -> list[Ask]:
    """Return questions, each about a picture of its own."""
    load = pictures(
        MODEL, count, name=name, shoot=lambda seed: photograph_jpeg(seed, 336, 336), concurrency=1
    )
    asks = [ask for conversation in load.conversations for ask in conversation]
    return asks[:count]


async def measure(gateway: Gateway, rounds: int, count: int) -> Table:
    """Return the table of all rates."""
    table = Table("live/s", "p50 without", "with", "p99 without", "with", "p99 ratio", "lines answered")
    pool = Pool(int(gateway.url.rpartition(":")[2]))
    bodies = [
        orjson.dumps(orjson.loads(ask.body) | {"max_tokens": LONG, "min_tokens": LONG})
        for ask in asked("lines", 1000)
    ]
    await latencies(pool, asked("warm", 30), 10, 0)
    for rate in RATES:
        alone: list[float] = []
        beside: list[float] = []
        lines: list[float] = []
        for number in range(rounds):
            name = f"{rate}-{number}"
            alone += await latencies(pool, asked(f"{name}-alone", count), rate, number)
            async with batch_behind(gateway, bodies, lines):
                beside += await latencies(pool, asked(f"{name}-beside", count), rate, number)
        shown = [percentile(of, percent) for percent in (50, 99) for of in (alone, beside)]
        cells = [f"{1000 * seconds:.0f} ms" for seconds in shown]
        table.add_row(f"{rate:g}", *cells, f"{shown[3] / shown[2]:.2f}", f"{sum(lines):.0f}")
    pool.close()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="pairs of rounds for each rate")
    parser.add_argument("--count", type=int, default=100, help="live requests in a round")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served_gateway(Path(folder), profile="demo") as gateway:
        Console().print(asyncio.run(measure(gateway, chosen.rounds, chosen.count)))


if __name__ == "__main__":
    main()
