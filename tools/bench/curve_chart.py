"""The curve as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from tools.bench.bodies import KINDS
from tools.bench.closed_loop import Point

# Told apart without colours, too.
SIDES = {
    "ours": ("this gateway", "#1d6fa5", "o"),
    "vllm": ("vLLM's server", "#b45309", "s"),
    "engine": ("the engine alone", "#4b5563", "^"),
}
ROWS = {
    "tokens_per_s": "tokens/s",
    "ttft_ms_p50": "first token, p50 (ms)",
    "ttft_ms_p99": "first token, p99 (ms)",
    "gap_ms_p99": "gap, p99 (ms)",
}


def draw(points: Mapping[str, Mapping[str, Sequence[Point]]], share: float, path: Path) -> None:
    """Draw a column for each kind, and `share` of the engine alone's throughput as a dashed floor."""
    figure = Figure(figsize=(4.5 * len(points), 3 * (len(ROWS) + 1)), layout="constrained")
    grid = figure.subplots(len(ROWS) + 1, len(points), squeeze=False)
    for column, (kind, sides) in enumerate(points.items()):
        grid[0][column].set_title(KINDS[kind].title)
        for side, found in sides.items():
            label, colour, marker = SIDES[side]
            places = [point.at_once for point in found]
            for row, name in enumerate(ROWS):
                values = [point.figures[name] for point in found]
                grid[row][column].plot(places, values, color=colour, marker=marker, label=label)
                if side == "engine" and name == "tokens_per_s":
                    floor = [share * value for value in values]
                    grid[row][column].plot(
                        places, floor, color=colour, linestyle="--", label=f"{share:g} of it"
                    )
            peak = [sum(point.peak.values()) for point in found]
            grid[-1][column].plot(places, peak, color=colour, marker=marker, label=label)
        for row, label in enumerate((*ROWS.values(), "peak memory (MiB)")):
            axes = grid[row][column]
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(ScalarFormatter())
            if 0 < row < len(ROWS):
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
        grid[-1][column].set_xlabel("requests at once")
    grid[0][0].legend()
    figure.savefig(path, dpi=100)
