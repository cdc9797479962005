"""Measures how long the demo takes from the command to ready, and from its engine's death to ready again.

`python -m tools.bench.starts` alternates between runs with and without the fork server, and also prints the
memory of each process: PSS, in which a page shared by two processes counts half for each, and RSS.
"""

import argparse
import os
import signal
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from tests.servers import Gateway, core, start, wait_until_ready
from tools.bench.processes import MIB, name

LONGEST = 300.0  # seconds for a restart


@dataclass(frozen=True, slots=True)
class Trial:
    """One start and one restart, in seconds, and the PSS and RSS of each process, in MiB."""

    ready: float
    back: float
    memory: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        memory = ", ".join(f"{name} {pss:.0f} ({rss:.0f})" for name, (pss, rss) in self.memory.items())
        return f"ready {self.ready:.1f} s, back {self.back:.1f} s; PSS (RSS) in MiB: {memory}"


def memory(pid: int) -> dict[str, tuple[float, float]]:
    """Return the PSS and RSS of process `pid` and its descendants, in MiB; those of one name are added up."""
    process = psutil.Process(pid)
    found: dict[str, tuple[float, float]] = {}
    for member in [process, *process.children(recursive=True)]:
        used, kind = member.memory_full_info(), name(" ".join(member.cmdline()))
        pss, rss = found.get(kind, (0.0, 0.0))
        found[kind] = pss + used.pss / MIB, rss + used.rss / MIB
    return found


def is_ready(gateway: Gateway) -> bool:
    try:
        with urllib.request.urlopen(f"{gateway.url}/health/ready", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_for(gateway: Gateway, *, ready: bool) -> None:
    """Return once `/health/ready` answers 200, or does not. Raises TimeoutError after LONGEST."""
    deadline = time.monotonic() + LONGEST
    while is_ready(gateway) != ready:
        if time.monotonic() > deadline:
            raise TimeoutError(f"/health/ready did not change in {LONGEST:.0f} s")
        time.sleep(0.02)


def measure(fork_server: str) -> Trial:
    """Start a gateway, kill its engine, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        gateway, process = start(Path(folder), profile="demo", fork_server=fork_server)
        try:
            wait_until_ready(gateway, process)
            ready, used = time.monotonic() - began, memory(gateway.pid)
            began = time.monotonic()
            core(gateway).send_signal(signal.SIGKILL)
            wait_for(gateway, ready=False)
            wait_for(gateway, ready=True)
            return Trial(ready, time.monotonic() - began, used)
        finally:
            process.terminate()
            process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="starts of each kind (default: 3)")
    rounds = parser.parse_args().rounds
    trials: dict[str, list[Trial]] = {"false": [], "true": []}
    for _ in range(rounds):
        for fork_server, found in trials.items():
            found.append(measure(fork_server))
            print(f"GATEWAY_FORK_SERVER={fork_server}: {found[-1]}", flush=True)
    for fork_server, found in trials.items():
        ready, back = median(trial.ready for trial in found), median(trial.back for trial in found)
        print(f"median, GATEWAY_FORK_SERVER={fork_server}: ready {ready:.1f} s, back {back:.1f} s")
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
