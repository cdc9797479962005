"""Every metric is described, and what it counts is what happened."""

from pathlib import Path

import pytest

from gateway.answering.latency import LatencyMetrics
from gateway.engine.interface import Delta
from gateway.telemetry import families
from gateway.telemetry.metrics import ENGINE, Metrics

PAGE = Path(__file__).parents[2] / "docs/metrics.md"


def delta(index: int, made: float, tokens: int = 1) -> Delta:
    return Delta(index=index, text="a", tokens=tokens, prompt_tokens=1, made=made)


def measured(*taken: tuple[Delta, float]) -> tuple[int, float]:
    """Return how many times between tokens were counted, and their sum."""
    metrics = Metrics()
    pace = LatencyMetrics(metrics, 0.0)
    for arrived, now in taken:
        pace.take(arrived, now)
    value, name = metrics.registry.get_sample_value, "gateway_time_between_tokens_seconds"
    return int(value(f"{name}_count") or 0), value(f"{name}_sum") or 0.0


def test_page_of_the_docs_is_what_the_command_prints() -> None:
    assert PAGE.read_text() == families.page(Metrics().families, ENGINE)


def test_every_metric_and_label_is_described() -> None:
    metrics = Metrics()
    described = {family.name: family for family in metrics.families}
    for family in metrics.registry.collect():
        ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
        assert described[family.name + ending].meaning == family.documentation
    labels = {tuple(getattr(metric, "_labelnames", ())) for metric in vars(metrics).values()}
    assert labels <= {tuple(family.labels) for family in metrics.families} | {()}


def test_time_between_tokens_is_the_engines_and_not_the_clients() -> None:
    # The client took 5 s for the first token: the engine made the others meanwhile, 0.1 s apart.
    count, total = measured((delta(0, 1.0), 1.0), (delta(0, 1.2, tokens=2), 6.0), (delta(0, 1.3), 6.1))
    assert count == 2
    assert total == pytest.approx(0.1 + 0.1)


def test_time_between_tokens_is_of_each_choice_by_itself() -> None:
    count, total = measured((delta(0, 1.0), 0), (delta(1, 1.1), 0), (delta(0, 2.0), 0), (delta(1, 2.1), 0))
    assert count == 2
    assert total == pytest.approx(1.0 + 1.0)


def test_engine_that_tells_no_time_is_measured_by_when_its_tokens_arrive() -> None:
    assert measured((delta(0, 0.0), 1.0), (delta(0, 0.0), 1.5)) == (1, 0.5)


def test_delta_without_tokens_does_not_count() -> None:
    assert measured((delta(0, 1.0), 1), (delta(0, 2.0, tokens=0), 2)) == (0, 0)
