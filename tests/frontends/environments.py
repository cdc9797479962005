"""The frontends' environments, one each below .frontends/, made once and kept."""

import json
import shutil
import subprocess
from pathlib import Path

from tests import environments
from tests.debian import require

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".frontends"


def python(name: str, *packages: str) -> Path:
    """Return the environment with these packages of PyPI."""
    folder = ENVIRONMENTS / name
    if not _is_made(folder, packages):
        environments.make(folder, packages, timeout=900)
        _note(folder, packages)
    return folder


def node(name: str, *packages: str) -> Path:
    """Return the folder with these packages of npm in its node_modules."""
    folder = ENVIRONMENTS / name
    if not _is_made(folder, packages):
        folder.mkdir(parents=True)
        npm = [require("npm"), "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run([*npm, "--prefix", str(folder), *packages], check=True, timeout=300)
        _note(folder, packages)
    return folder


def _is_made(folder: Path, packages: tuple[str, ...]) -> bool:
    """Tell whether the environment has just these packages; remove one that has others or is unfinished."""
    stamp = folder / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text()) == list(packages):
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _note(folder: Path, packages: tuple[str, ...]) -> None:
    (folder / "installed.json").write_text(json.dumps(packages))
