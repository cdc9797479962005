"""What set-up checks before it fetches gigabytes: which engine, the driver, the GPU, the disk.

The standard library alone, because set-up runs before anything is installed.
"""

import os
from pathlib import Path
from typing import Literal

from engine_config import machine
from engine_config.machine import GPUs

Engine = Literal["cpu", "gpu"]

# Bytes on disk of a finished .venv, and of the packages that pip fetches and caches for it; `du -s`.
DISK: dict[Engine, int] = {"cpu": 4_000_000_000, "gpu": 9_500_000_000}
FETCHED: dict[Engine, int] = {"cpu": 900_000_000, "gpu": 4_300_000_000}


class SetupFailed(Exception):
    """Set-up cannot go on; the message says why and what to do."""


def choose_engine(asked: Engine | None, installed: Engine | None, gpus: GPUs) -> tuple[Engine, str]:
    """Return the engine to install and why. Raises SetupFailed if that cannot be determined."""
    if asked:
        return asked, "as asked"
    if installed:
        return installed, "as before"
    if gpus.probe == "probe failed":
        raise SetupFailed(
            f"{gpus.detail}\nset-up: whether this machine has a GPU is unknown: repair the driver, or choose "
            "the engine with ENGINE=gpu or ENGINE=cpu"
        )
    return ("gpu", str(gpus)) if gpus.found else ("cpu", str(gpus))


def check_gpu(gpus: GPUs) -> None:
    """Check the driver and every GPU; where there is none, an image may be built. Raises SetupFailed."""
    problems = [machine.driver_problem(gpus), *map(machine.capability_problem, gpus.found)]
    if found := [problem for problem in dict.fromkeys(problems) if problem]:
        found.append("the CPU engine runs here with the demo model: make serve ENGINE=cpu")
        raise SetupFailed("\nset-up: ".join(found))


def check_disk(engine: Engine, root: Path) -> None:
    """Check that the disk can hold what will be installed. Raises SetupFailed."""
    cache = Path(os.environ.get("PIP_CACHE_DIR") or Path.home() / ".cache/pip")
    needed = DISK[engine] + (FETCHED[engine] if _device(cache) == _device(root) else 0)
    free = machine.free_disk(root)
    if free < needed:
        raise SetupFailed(
            f"{root} has {free / 1e9:.1f} GB free; the {engine} engine needs {needed / 1e9:.1f} GB: "
            "make room, or move this checkout to a larger disk"
        )


def _device(folder: Path) -> int:
    """Return the file system that `folder` is on, or will be."""
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev
