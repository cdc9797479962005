"""Creates metrics and records their descriptions, for docs/metrics.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

_M = TypeVar("_M", Counter, Gauge, Histogram, Info)


@dataclass(frozen=True, slots=True)
class Family:
    """Describes a metric of `/metrics`. `labels` maps each label to its values or their meaning."""

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
        """Create a counter. Its name in `/metrics` ends with `_total`."""
        return self._record(
            Counter(name, meaning, list(labels or {}), registry=self.registry), "_total", labels
        )

    def gauge(self, name: str, meaning: str, labels: Mapping[str, str] | None = None) -> Gauge:
        return self._record(Gauge(name, meaning, list(labels or {}), registry=self.registry), "", labels)

    def histogram(
        self, name: str, meaning: str, buckets: Sequence[float], labels: Mapping[str, str] | None = None
    ) -> Histogram:
        made = Histogram(name, meaning, list(labels or {}), buckets=buckets, registry=self.registry)
        return self._record(made, "", labels)

    def info(self, name: str, meaning: str, labels: Mapping[str, str]) -> Info:
        """Create a gauge that is always 1, for its labels. Its name in `/metrics` ends with `_info`."""
        return self._record(Info(name, meaning, registry=self.registry), "_info", labels)

    def _record(self, metric: _M, ending: str, labels: Mapping[str, str] | None) -> _M:
        (family,) = metric.describe()
        kind = "gauge" if family.type == "info" else family.type
        self.made.append(Family(family.name + ending, kind, family.documentation, labels or {}))
        return metric


def page(families: Sequence[Family], engine: Mapping[str, str]) -> str:
    """Return docs/metrics.md: every gateway metric, and the metrics of vLLM that `engine` describes."""
    lines = [
        "# Metrics",
        "",
        "The metrics at `/metrics`. Times are in seconds, sizes in bytes. No client can choose a label's",
        "value: routes, codes and reasons come from the code, callers and classes from the operator's keys.",
        "`llava-gateway metrics` writes this page.",
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for family in families:
        labels = "<br>".join(f"`{name}`: {values}" for name, values in family.labels.items())
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |")
    lines += [
        "",
        "`/metrics` also has vLLM's own metrics, named `vllm:…`. The most useful ones:",
        "",
        "| metric | meaning |",
        "| --- | --- |",
        *(f"| `{name}` | {meaning} |" for name, meaning in engine.items()),
    ]
    return "\n".join(lines) + "\n"
