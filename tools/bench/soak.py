"""`python -m tools.bench.soak`: many requests, each with another picture, and the memory they leave taken."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from threading import local
from time import monotonic
from typing import Annotated

import psutil
import typer
from rich.console import Console

from engine_config import profile as profiles
from gateway.access.memory_budgets import peak_bytes
from gateway.settings import Settings
from tests.servers import served_gateway
from tools.bench import hostile as attacks
from tools.bench import report, servers
from tools.bench.pictures import photograph_jpeg
from tools.bench.workloads import pictures

SETTLED = 1000  # requests after which the caches are as full as they get
GROWTH = 0.05  # of what the gateway took then
BATCH = 100  # requests between two samples
CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident memory after `requests`, in MiB: of the gateway's process, and of the engine's altogether."""

    requests: int
    seconds: float
    gateway: float
    engine: float


def main(
    requests: Annotated[
        int, typer.Option(min=2 * SETTLED, help="Requests, each with its own picture.")
    ] = 10_000,
    profile: Annotated[str, typer.Option(help="Profile, or the path of one.")] = "demo",
    hostile: Annotated[
        float, typer.Option(min=0, help="Seconds of attacks on the memory, instead of those requests.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for JSON, chart and log.")] = Path(__file__).parent
    / "results",
) -> None:
    """Ask, watch the memory, write soak.json and soak.png; leave with 1 where it grew too much."""
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    if hostile:
        raise typer.Exit(0 if withstands(profile, out, hostile, console) else 1)
    with servers.running("ours", profile, out / "soak.log") as server:
        samples = []
        for sample in soak(server, profiles.load(profile).served_name, requests):
            samples.append(sample)
            if sample.requests % SETTLED == 0:
                console.print(
                    f"{sample.requests:6} requests, {sample.seconds:5.0f} s: "
                    f"gateway {sample.gateway:.0f} MiB, engine {sample.engine:.0f} MiB"
                )
    grown = growth(samples)
    figures = {
        "machine": report.machine(),
        "growth": grown,
        "samples": [asdict(sample) for sample in samples],
    }
    (out / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    chart(samples, out / "soak.png")
    console.print(f"after the first {SETTLED} requests the gateway's memory changed by {grown:+.1%}")
    if grown > GROWTH:
        raise typer.Exit(1)


def withstands(profile: str, out: Path, seconds: float, console: Console) -> bool:
    """Attack the gateway's memory and write hostile.json. Say whether it held docs/memory.md."""
    model = profiles.load(profile).served_name
    with served_gateway(out, profile=profile, fetch_allow="127.0.0.1/32") as gateway:
        outcome = attacks.run(gateway.url, gateway.pid, model, seconds=seconds, scale=1, rest=90)
    settings = Settings().completed(profiles.load(profile).max_num_seqs, keyed=False)
    allowed = peak_bytes(settings, len(os.sched_getaffinity(0)))
    for (name, status), number in sorted(outcome.answers.items()):
        console.print(f"{name:28} {status or 'left':>4} {number:6}")
    console.print(outcome.summary(sum(allowed.values())))
    figures = {
        "machine": report.machine(),
        "seconds": seconds,
        "before": outcome.before,
        "peak": outcome.peak,
        "after": outcome.after,
        "cached": outcome.cached,
        "allowed": allowed,
        "honest": outcome.honest,
        "answers": [[*asked, number] for asked, number in sorted(outcome.answers.items())],
    }
    (out / "hostile.json").write_text(json.dumps(figures, indent=1) + "\n")
    return outcome.holds(sum(allowed.values()))


def soak(server: servers.Server, model: str, requests: int) -> Iterable[Sample]:
    """Ask for `requests` pictures, and yield a sample after every BATCH. Raises OSError for a refused one."""
    ours = psutil.Process(server.pid)
    began = monotonic()
    connections = local()

    def ask(body: bytes) -> None:
        if not hasattr(connections, "open"):
            connections.open = HTTPConnection("127.0.0.1", server.port, timeout=120)
        connections.open.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        response = connections.open.getresponse()
        content = response.read()
        if response.status != 200:
            raise OSError(f"{response.status}: {content[:300]!r}")

    with ThreadPoolExecutor(CONCURRENCY) as threads:
        for asked in range(0, requests, BATCH):
            shoot = partial(photograph_jpeg, width=336, height=336)
            # The bodies of one batch at a time: all of them would be the client's memory, not the gateway's.
            load = pictures(model, BATCH, name=f"soak {asked}", shoot=shoot, concurrency=CONCURRENCY)
            list(threads.map(ask, [question.body for (question,) in load.conversations]))
            engine = sum(child.memory_info().rss for child in ours.children(recursive=True))
            taken = ours.memory_info().rss
            yield Sample(asked + BATCH, monotonic() - began, taken / 2**20, engine / 2**20)


def growth(samples: list[Sample]) -> float:
    """Return by what share the gateway's memory changed from about SETTLED requests on to the end.

    Medians of five samples: one sample catches what happened to be under way.
    """
    settled = [sample.gateway for sample in samples if sample.requests >= SETTLED]
    return median(settled[-5:]) / median(settled[:5]) - 1


def chart(samples: list[Sample], path: Path) -> None:
    """Draw both processes' memory over the requests, and the bound."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # a chart at the end alone

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    numbers = [sample.requests for sample in samples]
    axes.plot(numbers, [sample.gateway for sample in samples], label="gateway")
    axes.plot(numbers, [sample.engine for sample in samples], label="engine's processes")
    settled = median([sample.gateway for sample in samples if sample.requests >= SETTLED][:5])
    axes.axhline(settled * (1 + GROWTH), color="grey", linestyle=":", label=f"gateway's bound, {GROWTH:+.0%}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("requests, each with another picture")
    axes.set_ylabel("resident memory (MiB)")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    typer.run(main)
