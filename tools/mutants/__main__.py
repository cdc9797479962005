"""How much of the code the tests hold: changes one thing at a time and counts what they catch.

    python -m tools.mutants [--count 200] [--seed 0] [--paths …] [--tests …] [--fresh]

First the tests that need no engine run once, to learn which of them run which line (`.mutants/coverage`, made
again with `--fresh`). Then each mutant, in a copy of the tree, meets the tests that run its line, the most
specific first, and is caught if one fails. A line that no test runs is a survivor.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Literal

from coverage import CoverageData

from tools.mutants.mutations import Mutation, mutations

ROOT = Path(__file__).parents[2]
STORE = ROOT / ".mutants"
# What no test without the engine can run: vLLM's side, and programs that make the demo model.
LEFT_OUT = (
    "gateway/engine/vllm_",
    "gateway/__main__",
    "engine_config/demo_model/",
    "engine_config/constraints",
)
MOST_TESTS = 60  # of those that run a line; the most specific of thousands
TIMEOUT = 180.0  # seconds; a mutant that makes a loop endless is caught by it
CACHE = ".pytest_cache"  # What tests have fetched is in it.
AT_ONCE = 2
COPIED = ("gateway", "engine_config", "tests", "tools", "docs", "deploy", "examples")

Outcome = Literal["caught", "survived", "no test"]


@dataclass(frozen=True, slots=True)
class Mutant:
    path: str  # from the root
    mutation: Mutation

    def __str__(self) -> str:
        before, after = (" ".join(text.split())[:70] for text in (self.mutation.before, self.mutation.after))
        return f"{self.path}:{self.mutation.line}: {before} → {after}"


class Tests:
    """Which tests run which line."""

    def __init__(self, data: CoverageData) -> None:
        self._data = data
        self._lines: Counter[str] = Counter()  # of each test
        for name in data.measured_files():
            for contexts in data.contexts_by_lineno(name).values():
                self._lines.update(contexts)

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the mutant's line, those that run least else first.

        What runs at the import, constants and defaults, is of all tests that run something of the module.
        """
        by_line = self._data.contexts_by_lineno(str(ROOT / mutant.path))
        found = by_line.get(mutant.mutation.line, [])
        if found and not any(found):
            found = [context for contexts in by_line.values() for context in contexts]
        names = {context.partition("|")[0] for context in found if context}
        return sorted(names, key=lambda name: self._lines[f"{name}|run"])[:MOST_TESTS]


def learn(tests: Sequence[str], *, fresh: bool) -> Tests:
    """Run `tests` once under coverage, unless that has been done."""
    store = STORE / "coverage"
    if fresh or not store.exists():
        STORE.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pytest", "-m", "not engine and not proof", *tests]
        command += ["-n", str(AT_ONCE), "--dist", "worksteal"]
        command += ["--cov", "gateway", "--cov", "engine_config", "--cov-context", "test", "--cov-report="]
        environment = os.environ | {"COVERAGE_FILE": str(store)}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    data = CoverageData(str(store))
    data.read()
    return Tests(data)


def candidates(paths: Sequence[str]) -> list[Mutant]:
    """Return every mutant of the Python files under `paths`."""
    found = []
    for folder in paths:
        top = ROOT / folder
        for file in [top] if top.is_file() else sorted(top.rglob("*.py")):
            path = str(file.relative_to(ROOT))
            if not path.startswith(LEFT_OUT):
                found += [Mutant(path, mutation) for mutation in mutations(file.read_text())]
    return found


def copied() -> Path:
    """Return a copy of what the tests need of the tree, to be changed."""
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    for name in COPIED:
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    return folder


def judge(mutant: Mutant, tests: Sequence[str], folder: Path) -> Outcome:
    """Run `tests` on the mutant in `folder`."""
    if not tests:
        return "no test"
    file = folder / mutant.path
    file.write_text(mutant.mutation.applied())
    options = ["-x", "-q", "--no-header", "--tb=no", "-o", f"cache_dir={ROOT / CACHE}"]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=folder, env=environment, capture_output=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "caught"
    finally:
        file.write_text(mutant.mutation.source)
    return "survived" if done.returncode == 0 else "caught"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--paths", nargs="+", default=["gateway", "engine_config"])
    parser.add_argument("--tests", nargs="+", default=[], help="the tests to learn from; by default all")
    parser.add_argument("--fresh", action="store_true", help="learn again which tests run which line")
    asked = parser.parse_args()
    tests = learn(asked.tests, fresh=asked.fresh)
    all_of_them = candidates(asked.paths)
    chance = random.Random(asked.seed)  # to choose mutants, not secrets
    chosen = chance.sample(all_of_them, min(asked.count, len(all_of_them)))
    folders: Queue[Path] = Queue()
    for _ in range(AT_ONCE):
        folders.put(copied())
    outcomes: Counter[Outcome] = Counter()
    began = time.monotonic()

    def try_one(mutant: Mutant) -> tuple[Mutant, Outcome]:
        folder = folders.get()
        try:
            return mutant, judge(mutant, tests.of(mutant), folder)
        finally:
            folders.put(folder)

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for mutant, outcome in pool.map(try_one, chosen):
                outcomes[outcome] += 1
                if outcome != "caught":
                    print(f"{outcome}: {mutant}", flush=True)
    finally:
        while not folders.empty():
            shutil.rmtree(folders.get())
    share = outcomes["caught"] / max(1, outcomes.total())
    print(
        f"{outcomes['caught']} of {outcomes.total()} mutants caught ({share:.0%}), "
        f"{outcomes['survived']} survived, {outcomes['no test']} in lines that no test runs; "
        f"seed {asked.seed}, {len(all_of_them)} candidates, {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
