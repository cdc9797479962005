"""Attacks on the gateway's memory, all at once and smaller than `make soak ARGS=--hostile=240` has them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.memory_budgets import peak_bytes
from gateway.settings import load
from tools.bench import hostile

pytestmark = pytest.mark.slow

SECONDS, SCALE = 2.0, 0.1
MB = 2**20
# About a tenth of the defaults, as are files and crowds.
LIMITS = {
    "memory_bodies": 50 * MB,
    "memory_images": 25 * MB,
    "memory_pixels": 300 * MB,
    "image_cache_bytes": 25 * MB,
    "body_max_bytes": 8 * MB,
    "image_max_bytes": 2 * MB,
    "max_running": 16,
    "max_connections": 250,
    "image_threads": 1,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Yield the address and the process of a gateway on the scripted engine."""
    address = tmp_path / "address"
    command = [sys.executable, "-m", "tests.scripted_server", str(address)]
    environment = {**os.environ, **{f"GATEWAY_{name.upper()}": str(value) for name, value in LIMITS.items()}}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment) as process,
    ):
        deadline = time.monotonic() + 30
        while not (address.exists() and (url := address.read_text())):
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield url, process.pid


def test_all_attacks_at_once_stay_within_the_formula_and_give_memory_back(server: tuple[str, int]) -> None:
    url, pid = server
    outcome = hostile.run(url, pid, "llava-demo", seconds=SECONDS, scale=SCALE, rest=20)
    allowed = sum(peak_bytes(load(**LIMITS), LIMITS["image_threads"]).values())
    assert outcome.holds(allowed), outcome
