"""Environments for other people's programs: made once, kept, and shared by pytest's workers."""

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.debian import require

FRONTENDS = Path(__file__).parents[1] / ".frontends"


def python(folder: Path, *packages: str) -> Path:
    """Make `folder` a virtual environment with these packages of PyPI, unless it is one already; return it.

    It has no pip of its own, as Debian's Python brings none: this one's fills it.
    """
    with _unfinished(folder, packages) as unfinished:
        if unfinished:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
            pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
            subprocess.run(
                [*pip, "--quiet", "--disable-pip-version-check", *packages], check=True, timeout=900
            )
    return folder


def node(folder: Path, *packages: str) -> Path:
    """Put these packages of npm into `folder`/node_modules, unless they are there; return `folder`."""
    with _unfinished(folder, packages) as unfinished:
        if unfinished:
            folder.mkdir(parents=True)
            npm = [require("npm"), "install", "--no-audit", "--no-fund", "--no-package-lock"]
            subprocess.run([*npm, "--prefix", str(folder), *packages], check=True, timeout=500)
    return folder


@contextmanager
def _unfinished(folder: Path, packages: Sequence[str]) -> Iterator[bool]:
    """Tell whether `folder` has yet to be filled; if so it is empty, and full once the body has run.

    One process at a time does that: two npms in one folder fail with ENOTEMPTY.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / "installed.json"
        unfinished = not stamp.exists() or json.loads(stamp.read_text()) != list(packages)
        if unfinished:
            shutil.rmtree(folder, ignore_errors=True)
        yield unfinished
        if unfinished:
            stamp.write_text(json.dumps(list(packages)))
