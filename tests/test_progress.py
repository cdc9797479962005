"""How far a start is: what is said of bytes, rate and time left, and how loading is counted."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine_config.progress import Meter, Progress
from gateway.engine import loading


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(0, 14_100_000_000, 0), "0.0 of 14.1 GB"),
        (Progress(3_200_000_000, 14_100_000_000, 85e6), "3.2 of 14.1 GB, 85 MB/s, 2 min left"),
        (Progress(14_000_000_000, 14_100_000_000, 50e6), "14.0 of 14.1 GB, 50 MB/s, 2 s left"),
        (Progress(4_300_000, 8_600_000, 1e6), "4.3 of 8.6 MB, 1 MB/s, 4 s left"),
    ],
)
def test_progress_is_said_in_bytes_rate_and_time_left(progress: Progress, said: str) -> None:
    assert str(progress) == said


def test_the_rate_is_that_of_the_last_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [(0.0, 500), (5.0, 550), (12.0, 620), (20.0, 620), (40.0, 620)]
    times = iter([now for now, _ in seen])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    meter = Meter(1000)
    rates = [meter.at(done).rate for _, done in seen]
    assert rates == [0.0, 10.0, 10.0, 0.0, 0.0]  # What was here before is no speed.


def tensors(_: Any, *sizes: int) -> Iterator[tuple[str, Any]]:
    """Stand in for vLLM's iterator: a tensor of each size, in bytes."""
    for size in sizes:
        yield "weight", SimpleNamespace(nbytes=size)


def test_tensor_counts_once_the_next_is_asked_for(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.touch()
    (tmp_path / "a.safetensors").write_bytes(bytes(70))
    (tmp_path / "b.safetensors").write_bytes(bytes(50))
    files = [str(tmp_path / name) for name in ("a.safetensors", "b.safetensors")]
    weights = loading.counted(tensors, count)
    seen = [loading._COUNT.unpack(count.read_bytes()) for _ in weights(files, 60, 40)]
    assert seen == [(0, 120), (60, 120)]
    assert loading._COUNT.unpack(count.read_bytes()) == (120, 120)


def test_what_another_process_loads_is_reported_until_the_start_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "TICK", 0.01)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(1000))
    program = f"""
import os
from pathlib import Path
from gateway.engine import loading
from tests.test_progress import tensors
path = Path(os.environ[loading.VARIABLE])
for _ in loading.counted(tensors, path)([{str(weights)!r}], 600, 300):
    input()
"""
    told: list[Progress] = []

    def wait_for(done: int) -> None:
        deadline = time.monotonic() + 60
        while not told or told[-1].done != done:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with loading.watched(told.append) as variables:
        command = [sys.executable, "-c", program]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | variables)
        assert child.stdin is not None
        for done in (0, 600, 1000):
            wait_for(done)
            if done < 1000:
                child.stdin.write(b"\n")
                child.stdin.flush()
        child.stdin.close()
        assert child.wait(60) == 0
    assert {(progress.doing, progress.total) for progress in told} == {("loading", 1000)}
    assert told[-1].rate > 0
    assert not Path(variables[loading.VARIABLE]).exists()


def test_nothing_is_reported_of_a_start_that_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "TICK", 0.01)
    told: list[Progress] = []
    with loading.watched(told.append):
        time.sleep(0.1)
    assert told == []
