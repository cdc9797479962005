"""The comparison as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tools.bench.targets import Outcome

MET, NOT_MET = "#1d6fa5", "#b45309"  # to be told apart by everybody


def draw(found: Sequence[Outcome], path: Path) -> None:
    """Draw each ratio as a bar with the spread of its rounds, and each target as a mark."""
    figure = Figure(figsize=(10, 0.5 * len(found) + 1.6), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(found), 0, -1)
    colours = [NOT_MET if outcome.met is False else MET for outcome in found]
    axes.barh(places, [outcome.ratio for outcome in found], color=colours, height=0.6)
    for place, outcome in zip(places, found, strict=True):
        low, high = outcome.spread
        axes.plot((low, high), (place, place), color="black", linewidth=1)
        if outcome.target.at_least is not None:
            axes.plot((outcome.target.at_least,) * 2, (place - 0.4, place + 0.4), color="black", linewidth=3)
        axes.text(max(high, outcome.ratio) * 1.04, place, f"{outcome.ratio:.2f}", va="center")
    axes.set_xscale("log")
    axes.set_yticks(places, [outcome.target.name for outcome in found])
    axes.axvline(1, color="grey", linewidth=1)
    largest = max((outcome.spread[1] for outcome in found if math.isfinite(outcome.spread[1])), default=1.0)
    axes.set_xlim(right=largest * 1.5)
    axes.set_xlabel("times better than the rival (line: rounds; thick mark: target)")
    figure.savefig(path, dpi=120)
