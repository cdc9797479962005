"""The curve: ours, vLLM's server and the engine alone, with more and more requests at once.

`make bench ARGS=--curve`. Each kind of request is measured on each server in turn, newly started. A point
takes at most `closed_loop`'s warm-up, window and rest, and one window more until the server is idle.
"""

import asyncio
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from engine_config import profile as profiles
from tools.bench import closed_loop, curve_chart, offline_curve, processes, report, servers
from tools.bench.bodies import KINDS, Requests, endless
from tools.bench.closed_loop import Point
from tools.bench.servers import Server

POINTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
QUICK_POINTS = (1, 8, 64)
SECONDS, QUICK_SECONDS = 8.0, 3.0
ENGINE_KINDS = {"text": "text", "336": "336", "12mp": "336"}  # the engine gets squares of 336 px in any case
SHARE = 0.9  # of the engine alone: the goal where it is saturated


@dataclass(slots=True)
class Curve:
    """The points by kind and side: `ours`, `vllm`, `engine`."""

    profile: str
    seconds: float
    points: dict[str, dict[str, list[Point]]] = field(default_factory=dict)

    def ratios(self, kind: str, rival: str, figure: str) -> dict[int, float]:
        """Return ours divided by the rival's `figure`, by requests at once."""
        theirs = {point.at_once: point.figures[figure] for point in self.points[kind].get(rival, [])}
        return {
            point.at_once: point.figures[figure] / theirs[point.at_once]
            for point in self.points[kind]["ours"]
            if theirs.get(point.at_once)
        }


def run(profile: str, kinds: Sequence[str], folder: Path, console: Console, *, quick: bool) -> Curve:
    """Measure all points of `kinds`, print each, and write curve.json and curve.png to `folder`."""
    points, seconds = (QUICK_POINTS, QUICK_SECONDS) if quick else (POINTS, SECONDS)
    curve = Curve(profile, seconds)
    context = multiprocessing.get_context("spawn")
    for kind in kinds:
        # A client for each kind: what it has made stays in its memory.
        with ProcessPoolExecutor(1, mp_context=context) as client:
            for name in servers.NAMES:
                found = curve.points.setdefault(kind, {}).setdefault(name, [])
                with servers.running(name, profile, folder / f"{name}.log") as server:
                    for at_once in points:
                        found.append(client.submit(measure, profile, kind, server, at_once, seconds).result())
                        console.print(_line(kind, name, found[-1]), highlight=False)
                        processes.settle(server.pid, seconds)
    alone = sorted({ENGINE_KINDS[kind] for kind in kinds})
    measured = offline_curve.run(profile, alone, points, seconds, folder)
    for kind in kinds:
        curve.points[kind]["engine"] = [Point(**point) for point in measured[ENGINE_KINDS[kind]]]
        for point in curve.points[kind]["engine"]:
            console.print(_line(kind, "engine", point), highlight=False)
    write(curve, folder)
    return curve


@cache
def _requests(profile: str, kind: str) -> Requests:
    return endless(KINDS[kind], profiles.load(profile).served_name)


def measure(profile: str, kind: str, server: Server, at_once: int, seconds: float) -> Point:
    """Return one point; the requests go on where the last point in this process stopped."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        requests = _requests(profile, kind)
        return runner.run(closed_loop.measure(server.port, server.pid, requests, at_once, seconds))


def show(curve: Curve, console: Console) -> None:
    """Print a table of each kind, and what speaks against a figure."""
    for kind, sides in curve.points.items():
        table = Table(title=f"{KINDS[kind].title}, {KINDS[kind].tokens} tokens each, profile {curve.profile}")
        columns = ("at once", "tokens/s", "of vLLM's", "of the engine's", "TTFT p50 (ms)", "of vLLM's")
        for column in (*columns, "TTFT p99 (ms)", "of vLLM's", "gap p99 (ms)", "server, engine busy", "MiB"):
            table.add_column(column, justify="right")
        over = {
            (rival, figure): curve.ratios(kind, rival, figure)
            for rival in ("vllm", "engine")
            for figure in ("tokens_per_s", "ttft_ms_p50", "ttft_ms_p99")
        }
        for point in sides["ours"]:
            ratios = {name: f"{found.get(point.at_once, float('nan')):.2f}" for name, found in over.items()}
            table.add_row(
                f"{point.at_once}",
                f"{point.figures['tokens_per_s']:.4g}",
                ratios["vllm", "tokens_per_s"],
                ratios["engine", "tokens_per_s"],
                f"{point.figures['ttft_ms_p50']:.4g}",
                ratios["vllm", "ttft_ms_p50"],
                f"{point.figures['ttft_ms_p99']:.4g}",
                ratios["vllm", "ttft_ms_p99"],
                f"{point.figures['gap_ms_p99']:.4g}",
                f"{point.cores.get('server', 0):.2f}, {point.cores.get('engine core', 0):.2f}",
                f"{sum(point.peak.values()):.0f}",
            )
        console.print(table)
    for line in doubts(curve):
        console.print(f"[bold yellow]doubt[/bold yellow] {line}", highlight=False)


def doubts(curve: Curve) -> list[str]:
    """Return everything that speaks against a point."""
    found = []
    for kind, sides in curve.points.items():
        for side, points in sides.items():
            for point in points:
                where = f"{kind}, {side}, {point.at_once} at once"
                if point.failures:
                    found.append(f"{where}: {len(point.failures)} failed: {point.failures[0]}")
                if point.silent:
                    silent = f"{point.silent} of {point.requests} had no first token"
                    found.append(f"{where}: {silent}; TTFT is a lower bound")
                if not point.steady:
                    found.append(f"{where}: the warm-up was not complete")
                if point.client_share > report.CLIENT_SHARE:
                    found.append(f"{where}: the client took {point.client_share:.0%} of a core")
    return found


def write(curve: Curve, folder: Path) -> None:
    written: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": report.machine(),
        "doubts": doubts(curve),
        **asdict(curve),
    }
    (folder / "curve.json").write_text(json.dumps(written, indent=1) + "\n")
    curve_chart.draw(curve.points, SHARE, folder / "curve.png")


def _line(kind: str, side: str, point: Point) -> str:
    figures = " ".join(f"{name}={value:.4g}" for name, value in point.figures.items())
    busy = ", ".join(f"{name} {share:.2f}" for name, share in point.cores.items() if share >= processes.LEAST)
    peak = sum(point.peak.values())
    return f"  {kind:5} {side:6} {point.at_once:4} at once: {figures}; busy: {busy}; peak {peak:.0f} MiB"
