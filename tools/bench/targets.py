"""How much faster is fast enough, as data; and how a ratio is taken."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Rival = Literal["vllm", "engine"]
FALLEN = 0.5  # of a recorded ratio: on a shared machine the same code has measured 0.62 of it
# Figures that a small round can be held to; of a few requests, the slowest one tells nothing.
STEADY = frozenset({"requests_per_s", "tokens_per_s", "conversation_s", "pictures_per_s"})


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of a workload, which way of it is better, and the ratio it must reach, if any."""

    workload: str
    figure: str
    unit: str
    higher_is_better: bool
    at_least: float | None
    rival: Rival = "vllm"

    @property
    def name(self) -> str:
        rival = "" if self.rival == "vllm" else " (engine alone)"
        return f"{self.workload} {self.figure}{rival}"


TARGETS = (
    Target("text-1", "ttft_ms_p50", "ms", higher_is_better=False, at_least=1.0),
    Target("text-32", "tokens_per_s", "1/s", higher_is_better=True, at_least=1.3),
    Target("text-32", "ttft_ms_p50", "ms", higher_is_better=False, at_least=None),
    Target("jpeg-336", "requests_per_s", "1/s", higher_is_better=True, at_least=1.6),
    Target("jpeg-1600", "requests_per_s", "1/s", higher_is_better=True, at_least=3.0),
    Target("jpeg-12mp", "requests_per_s", "1/s", higher_is_better=True, at_least=5.0),
    Target("png-2000", "requests_per_s", "1/s", higher_is_better=True, at_least=1.5),
    Target("one-picture", "conversation_s", "s", higher_is_better=False, at_least=3.0),
    Target("chat", "conversation_s", "s", higher_is_better=False, at_least=2.0),
    Target("mixed", "ttft_ms_p50", "ms", higher_is_better=False, at_least=None),
    Target("mixed", "ttft_ms_p99", "ms", higher_is_better=False, at_least=5.0),
    Target("mixed", "gap_ms_p99", "ms", higher_is_better=False, at_least=5.0),
    Target("mixed", "pictures_per_s", "1/s", higher_is_better=True, at_least=None),
    Target("jpeg-336", "requests_per_s", "1/s", higher_is_better=True, at_least=0.6, rival="engine"),
    Target("text-32", "requests_per_s", "1/s", higher_is_better=True, at_least=0.6, rival="engine"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target against what was measured: medians over the rounds, and each round's own ratio."""

    target: Target
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Return how many times better our median is; above 1 is better, whichever way the figure runs."""
        return _ratio(median(self.ours), median(self.theirs), self.target)

    @property
    def spread(self) -> tuple[float, float]:
        """Return the least and the largest ratio of a round."""
        pairs = zip(self.ours, self.theirs, strict=True)
        ratios = [_ratio(ours, theirs, self.target) for ours, theirs in pairs]
        return min(ratios), max(ratios)

    @property
    def met(self) -> bool | None:
        """Return whether the target is reached, None where there is none."""
        return None if self.target.at_least is None else self.ratio >= self.target.at_least


def outcomes(
    ours: Mapping[str, Sequence[Mapping[str, float]]],
    rivals: Mapping[Rival, Mapping[str, Sequence[Mapping[str, float]]]],
) -> list[Outcome]:
    """Return the outcome of every target that both sides have figures for: by workload, one each round."""
    found = []
    for target in TARGETS:
        mine, theirs = ours.get(target.workload), rivals.get(target.rival, {}).get(target.workload)
        if mine and theirs and all(target.figure in round_ for round_ in (*mine, *theirs)):
            found.append(
                Outcome(
                    target,
                    tuple(round_[target.figure] for round_ in mine),
                    tuple(round_[target.figure] for round_ in theirs),
                )
            )
    return found


def fallen(now: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """Return, in words, each ratio that is below FALLEN of the recorded one, or is no longer measured."""
    words = []
    for name, before in recorded.items():
        ratio = now.get(name, math.nan)
        if not ratio >= FALLEN * before:
            words.append(f"{name}: {ratio:.2f} now, {before:.2f} recorded")
    return words


def _ratio(ours: float, theirs: float, target: Target) -> float:
    better, worse = (ours, theirs) if target.higher_is_better else (theirs, ours)
    return better / worse if worse else math.inf
