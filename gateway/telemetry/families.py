"""Makes metrics and remembers what each is, for docs/metrics.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

_M = TypeVar("_M", Counter, Gauge, Histogram, Info)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as `/metrics` names it. `labels` gives each label's values or their meaning."""

    name: str
    kind: str
    meaning: str
    labels: Mapping[str, str]


@dataclass
class Families:
    """The metrics of one registry."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    made: list[Family] = field(default_factory=list)

    def counter(self, name: str, meaning: str, labels: Mapping[str, str] | None = None) -> Counter:
        """Make a counter. `/metrics` shows it with `_total` at its end."""
        return self._keep(
            Counter(name, meaning, list(labels or {}), registry=self.registry), "_total", labels
        )

    def gauge(self, name: str, meaning: str, labels: Mapping[str, str] | None = None) -> Gauge:
        return self._keep(Gauge(name, meaning, list(labels or {}), registry=self.registry), "", labels)

    def histogram(
        self, name: str, meaning: str, buckets: Sequence[float], labels: Mapping[str, str] | None = None
    ) -> Histogram:
        made = Histogram(name, meaning, list(labels or {}), buckets=buckets, registry=self.registry)
        return self._keep(made, "", labels)

    def info(self, name: str, meaning: str, labels: Mapping[str, str]) -> Info:
        """Make a gauge that is always 1, for its labels. `/metrics` shows it with `_info` at its end."""
        return self._keep(Info(name, meaning, registry=self.registry), "_info", labels)

    def _keep(self, metric: _M, ending: str, labels: Mapping[str, str] | None) -> _M:
        (family,) = metric.describe()
        kind = "gauge" if family.type == "info" else family.type
        self.made.append(Family(family.name + ending, kind, family.documentation, labels or {}))
        return metric


def page(families: Sequence[Family], engine: Mapping[str, str]) -> str:
    """Return docs/metrics.md: every metric of ours, and those of vLLM that `engine` explains."""
    lines = [
        "# Metrics",
        "",
        "What `/metrics` gives. Times are in seconds and sizes in bytes. No client can choose a label's",
        "value: routes, codes and reasons come from the code, callers and classes from the operator's keys.",
        "This page is written by `llava-gateway metrics`.",
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for family in families:
        labels = "<br>".join(f"`{name}`: {values}" for name, values in family.labels.items())
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |")
    lines += [
        "",
        "vLLM's own metrics, named `vllm:…`, are on the same page. The ones to look at first:",
        "",
        "| metric | meaning |",
        "| --- | --- |",
        *(f"| `{name}` | {meaning} |" for name, meaning in engine.items()),
    ]
    return "\n".join(lines) + "\n"
