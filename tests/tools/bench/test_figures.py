"""The harness does its sums right."""

import json
import math
from pathlib import Path

import pytest

import tools.bench
from tools.bench import figures
from tools.bench.connection import Exchange
from tools.bench.figures import Answer, percentile
from tools.bench.targets import Outcome, Target, fallen, outcomes
from tools.bench.workloads import Ask

FASTER = Target("w", "requests_per_s", "1/s", higher_is_better=True, at_least=2.0)
SOONER = Target("w", "ttft_ms_p50", "ms", higher_is_better=False, at_least=1.0)

USAGE = b'{"prompt_tokens":7,"completion_tokens":2}'


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (1, 1.0), (50, 50.0), (99, 99.0), (99.5, 100.0), (100, 100.0)]
)
def test_a_percentile_is_a_sample_by_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == expected


def test_of_few_samples_the_99th_percentile_is_the_largest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert math.isnan(percentile([], 99))


def test_the_first_token_is_the_first_event_with_text_and_gaps_lie_between_such_events() -> None:
    pieces = [
        (1.0, b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\ndata: {"choi'),
        (2.0, b'ces":[{"delta":{"content":"A"}}]}\n\n'),
        (5.0, b'data: {"choices":[{"delta":{"content":" star"}}]}\n\n'),
        (6.0, b'data: {"choices":[{"delta":{}}]}\n\ndata: {"choices":[],"usage":' + USAGE + b"}\n\n"),
        (7.0, b"data: [DONE]\n\n"),
    ]
    answer = figures.read(Exchange(0.5, 7.0, 200, pieces))
    assert answer == Answer(0.5, 7.0, "A star", 7, 2, (2.0, 5.0))
    measured = figures.of_answers([answer], seconds=2.0)
    assert measured["ttft_ms_p50"] == 1500.0
    assert measured["gap_ms_p99"] == 3000.0
    assert measured["latency_ms_p50"] == 6500.0
    assert measured["tokens_per_s"] == 1.0
    assert measured["events_per_answer"] == 2.0


def test_a_whole_answer_has_no_time_to_first_token() -> None:
    body = b'{"choices":[{"message":{"content":"Red."}}],"usage":' + USAGE + b"}"
    answer = figures.read(Exchange(0.0, 1.0, 200, [(1.0, body)]))
    assert (answer.text, answer.completion_tokens) == ("Red.", 2)
    assert "ttft_ms_p50" not in figures.of_answers([answer], seconds=1.0)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (503, b'{"error":{}}', "503: "),
        (200, b'data: {"error":{"message":"x"}}\n\n', "error"),
        (200, b'data: {"choices":[{"delta":{"content":"A"}}]}\n\n', "without its usage"),
    ],
)
def test_what_is_no_answer_is_a_failure(status: int, body: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        figures.read(Exchange(0.0, 1.0, status, [(1.0, body)]))


def test_an_answer_is_right_that_begins_right_and_a_missing_one_is_wrong() -> None:
    asks = [Ask(b"", "Red."), Ask(b"", "Red."), Ask(b"", "Red."), Ask(b"")]
    answers = [Answer(0, 1, text, 1, 1, ()) for text in (" Red. The", "Blue.")]
    assert figures.share_right(asks, [*answers, None, None]) == pytest.approx(1 / 3)
    assert figures.share_right(asks[3:], [None]) is None


def test_a_conversation_lasts_from_its_first_request_to_its_last_answer() -> None:
    conversation = [Exchange(1.0, 2.0), Exchange(2.5, 4.0)]
    assert figures.of_conversations([conversation]) == {"conversation_s": 3.0}


def test_a_ratio_above_one_is_better_whichever_way_the_figure_runs() -> None:
    assert Outcome(FASTER, (20.0,), (10.0,)).ratio == 2.0
    assert Outcome(SOONER, (5.0,), (10.0,)).ratio == 2.0
    assert Outcome(SOONER, (10.0,), (5.0,)).met is False


def test_the_ratio_is_of_the_medians_and_the_spread_of_the_rounds() -> None:
    outcome = Outcome(FASTER, (10.0, 40.0, 20.0), (10.0, 10.0, 10.0))
    assert outcome.ratio == 2.0
    assert outcome.spread == (1.0, 4.0)
    assert outcome.met is True


def test_a_target_without_figures_on_both_sides_has_no_outcome() -> None:
    round_ = {"tokens_per_s": 2.0, "requests_per_s": 1.0}
    found = outcomes({"text-32": [round_]}, {"vllm": {"text-32": [round_]}, "engine": {}})
    assert [outcome.target.name for outcome in found] == ["text-32 tokens_per_s"]


def test_only_a_ratio_below_half_of_the_recorded_one_has_fallen() -> None:
    assert fallen({"a": 1.0}, {"a": 2.0}) == []
    assert fallen({"a": 0.99}, {"a": 2.0}) == ["a: 0.99 now, 2.00 recorded"]
    assert fallen({}, {"a": 2.0}) == ["a: nan now, 2.00 recorded"]


def test_each_kind_of_machine_has_a_record_of_the_same_figures() -> None:
    recorded = json.loads((Path(tools.bench.__file__).parent / "recorded.json").read_text())
    assert [record["machine"]["bfloat16"] for record in recorded.values()] == [True, False]
    assert recorded["bfloat16"]["ratios"].keys() == recorded["no bfloat16"]["ratios"].keys()
