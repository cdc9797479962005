"""Fuzzes each target for a fixed time with atheris, guided by coverage; exits with 1 if anything was found.

    python -m tools.fuzz [SECONDS for each target] [TARGET…]

Corpus and finds stay in `.fuzz/`. A find is a file there, which is run again by

    PYTHONPATH=.:.fuzz/packages-3.11 python -m tools.fuzz.targets TARGET FILE
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tools.fuzz import seeds

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".fuzz"
ATHERIS = "atheris>=3,<4"
SLOWEST = 10  # seconds that one input may take
MEMORY = 4096  # MiB


def environment() -> dict[str, str]:
    """Return the environment that finds atheris, installed into a folder of its own where it is missing."""
    packages = HOME / f"packages-{sys.version_info.major}.{sys.version_info.minor}"
    if not (packages / "atheris").is_dir():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(packages)]
        if subprocess.call([*install, ATHERIS]):
            sys.exit("fuzz: atheris could not be installed; it has wheels for Linux and Python 3.11 to 3.13")
    return os.environ | {"PYTHONPATH": f"{ROOT}:{packages}"}


def fuzz(target: str, seconds: int) -> list[Path]:
    """Run one target; return the files that broke it."""
    corpus, found = HOME / "corpus" / target, HOME / "found" / target
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds.of(target):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    before = set(found.iterdir())
    options = [f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}"]
    quiet = ["-verbosity=0", "-print_final_stats=1", "-max_len=65536", f"-artifact_prefix={found}/"]
    command = [sys.executable, "-m", "tools.fuzz.targets", target, *options, *quiet, str(corpus)]
    print(f"fuzz: {target} for {seconds} s", flush=True)
    failed = subprocess.call(command, env=environment(), cwd=ROOT)
    files = sorted(set(found.iterdir()) - before)
    if failed and not files:
        sys.exit(f"fuzz: {target} ended with {failed} and left no file")
    return files


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    found = [file for target in sys.argv[2:] or seeds.SEEDS for file in fuzz(target, seconds)]
    for file in found:
        print(f"fuzz: found {file.relative_to(ROOT)}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
