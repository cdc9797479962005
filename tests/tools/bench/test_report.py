"""What was measured is told, and so is what speaks against it."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image
from rich.console import Console

from tools.bench import report, soak, stages
from tools.bench.figures import Measured


def test_a_sample_belongs_to_the_stage_of_its_innermost_known_frame() -> None:
    stacks = [
        "run (uvicorn/server.py);loads (gateway/schema/validation.py) 30",
        "run (uvicorn/server.py);work (images/loader.py);_resize (images/fit.py);resize (x.py) 60",
        "main (y.py) 10",
        "run (threading.py:1);_worker (/lib/concurrent/futures/thread.py:69) 500",  # waits for work
    ]
    assert stages.read(stacks) == {"fit": 0.6, "parse": 0.3, "other": 0.1}


def measured(**changed: Any) -> Measured:
    plain: dict[str, Any] = {
        "figures": {"requests_per_s": 2.0},
        "seconds": 5.0,
        "requests": 10,
        "failures": (),
        "right": 1.0,
        "completion_tokens": (16, 16),
        "prompt_tokens": 100,
        "client_share": 0.1,
    }
    return Measured(**plain | changed)


def test_nothing_speaks_against_a_clean_run() -> None:
    results = report.Results("demo", True, {"jpeg-336": [measured()]}, {"jpeg-336": [measured()]})
    assert report.doubts(results) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"client_share": 1000.0}, "jpeg-336, ours, round 1: the client took 100000% of a core"),
        ({"right": 0.5}, "jpeg-336, ours, round 1: 50% of the answers are right"),
        ({"failures": ("503: x",)}, "jpeg-336, ours, round 1: 1 of 10 failed: 503: x"),
        (
            {"completion_tokens": (15, 16)},
            "jpeg-336: the answers differ in length (tokens, least and most): [(15, 16), (16, 16)]",
        ),
        ({"prompt_tokens": 99}, "jpeg-336: the prompts differ in length (tokens of all): [99, 100]"),
    ],
)
def test_what_speaks_against_a_figure_is_told(changed: dict[str, Any], told: str) -> None:
    ours = {"jpeg-336": [measured(**changed)]}
    assert report.doubts(report.Results("demo", True, ours, {"jpeg-336": [measured()]})) == [told]


def test_the_report_has_its_table_its_json_and_its_chart(tmp_path: Path) -> None:
    ours = {"jpeg-336": [measured(figures={"requests_per_s": 4.0})]}
    results = report.Results("demo", True, ours, {"jpeg-336": [measured()]})
    out = io.StringIO()
    report.show(results, Console(file=out, width=160))
    report.write(results, tmp_path)
    assert "2.00" in out.getvalue()
    assert orjson.loads((tmp_path / "bench.json").read_bytes())["outcomes"][0]["ratio"] == 2.0
    with Image.open(tmp_path / "bench.png") as image:
        assert image.format == "PNG"


def test_growth_is_taken_from_a_thousand_requests_on() -> None:
    sizes = [100.0] * 9 + [200.0] * 20 + [210.0] * 5
    samples = [soak.Sample(100 * (at + 1), 0.0, size, 0.0) for at, size in enumerate(sizes)]
    assert soak.growth(samples) == pytest.approx(0.05)
