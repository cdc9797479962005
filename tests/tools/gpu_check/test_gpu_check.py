"""`make gpu-check` finds what is wrong, goes on, and says it in one report."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.gpu_check import steps
from tools.gpu_check.__main__ import page
from tools.gpu_check.questions import DESCRIBE, TEN
from tools.gpu_check.steps import CheckFailed, Skipped, Step

ANSWERS = {steps._name(question): " ".join(sorted(question.words)) for question in TEN}


@pytest.mark.engine
@pytest.mark.proof
def test_the_demo_profile_passes_and_what_does_not_fit_is_skipped(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tools.gpu_check", "--profiles", "llava-1.5-7b,demo"),
            *("--bench", "", "--report", report),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| (.*) \| (ok|skipped|failed) \| \d+ \|$", report.read_text(), re.MULTILINE)
    assert dict(rows) == {
        "machine": "ok",
        "set-up": "ok",
        "llava-1.5-7b: fits": "skipped",
        "demo: fits": "ok",
        "demo: weights": "ok",
        "demo: answers": "ok",
    }
    assert "- “What is in the image?”: A red circle and a blue square.\n" in report.read_text()
    assert "- 10 of 10 short questions answered right\n" in report.read_text()


def test_a_profile_that_does_not_come_up_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("colour = 'red'\n")
    step = steps.run("mine", lambda: steps.serve(str(tmp_path / "mine.toml"), tmp_path, {}))
    assert step.outcome == "failed"
    assert "'colour'" in step.text


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("A red circle and a blue square.", True),
        ("The image shows a blue square, and to its left a RED circle!", True),
        ("A red circle and a blue triangle.", False),
        ("A reddish circle and a blue square.", False),
        ("", False),
    ],
)
def test_a_description_is_right_when_it_has_every_word(answer: str, right: bool) -> None:
    assert DESCRIBE.right(answer) == right


def test_profiles_of_one_model_are_compared_with_the_one_that_has_all_bits() -> None:
    assert steps.pairs(
        ["a/llava-1.5-7b.toml", "llava-1.5-7b-4bit", "llava-1.5-7b-fp8", "demo", "x-4bit"]
    ) == [
        ("a/llava-1.5-7b.toml", "llava-1.5-7b-4bit"),
        ("a/llava-1.5-7b.toml", "llava-1.5-7b-fp8"),
    ]


def test_answers_that_differ_in_case_and_points_alone_are_the_same() -> None:
    other = {name: f"{answer.upper()}." for name, answer in ANSWERS.items()}
    assert steps.compare(ANSWERS, other) == "10 of 10 answers are the same"


def test_an_answer_that_differs_fails_and_is_shown() -> None:
    other = ANSWERS | {"Is there a red circle? (red circle, blue square)": "No."}
    with pytest.raises(CheckFailed) as failed:
        steps.compare(ANSWERS, other)
    assert str(failed.value).splitlines() == [
        "9 of 10 answers are the same",
        "Is there a red circle? (red circle, blue square): 'yes' and 'No.'",
    ]


def test_a_profile_that_gave_no_answers_is_not_compared() -> None:
    with pytest.raises(Skipped):
        steps.compare(ANSWERS, {})


def test_a_machine_whose_driver_is_too_old_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text("#!/bin/sh\necho '0, GPU-1, Tesla T4, 15360, 0, 535.10, 7.5'\n")
    nvidia_smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    step = steps.run("machine", steps.this_machine)
    assert step.outcome == "failed"
    assert "the NVIDIA driver is 535.10; vLLM's CUDA 13 needs 580 or later" in step.text
    step = steps.run("set-up", steps.set_up)
    assert (step.outcome, step.text.partition(": ")[2]) == (
        "failed",
        "the engine for GPUs is not installed; run `make gpu-check ENGINE=gpu`",
    )


def test_the_report_has_a_row_for_each_step_and_what_it_said() -> None:
    done = [
        Step("machine", "ok", 1.4, "NVIDIA L4\n8 cores"),
        Step("bench", "failed", 61.0, steps.block("boom")),
    ]
    assert page(done).splitlines()[2:] == [
        "| check | outcome | seconds |",
        "| --- | --- | --- |",
        "| machine | ok | 1 |",
        "| bench | failed | 61 |",
        "",
        *("## machine", "", "- NVIDIA L4", "- 8 cores", ""),
        *("## bench", "", "```text", "boom", "```"),
    ]
