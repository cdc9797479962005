"""Virtual environments that tests make for other people's programs."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def make(folder: Path, packages: Sequence[str], timeout: float) -> None:
    """Make one in `folder` with `packages`, by this one's pip: Debian's Python brings none."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
    subprocess.run([*pip, "--quiet", "--disable-pip-version-check", *packages], check=True, timeout=timeout)
