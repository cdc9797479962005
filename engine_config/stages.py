"""The stages of the set-up: each runs one command, with its output in a log and its time on the screen.

It runs before anything is installed, so it uses the standard library alone.
"""

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from engine_config import pip_log
from engine_config.preflight import SetupFailed

TICK = 10.0  # seconds between two lines about a stage, where there is no terminal


class Stages:
    """Runs one command per stage, shows which and for how long, and keeps their output in a log."""

    def __init__(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        self._environment = environment
        self._began = time.monotonic()

    def say(self, text: str, *, end: str = "\n") -> None:
        rewrite = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{rewrite}set-up {time.monotonic() - self._began:6.1f} s  {text}", end=end, flush=True)

    def run(self, label: str, *command: str | Path) -> None:
        """Run `command` as the stage `label`. Raises SetupFailed with the end of its output."""
        self.say(label, end="" if sys.stdout.isatty() else "\n")
        process = None
        reported, started = time.monotonic(), time.time()
        try:
            with self._log.open("a") as log, _signals_held():
                print("$", *command, file=log, flush=True)
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                )
            while self._still_runs(process):
                if sys.stdout.isatty():
                    self.say(self._progress(label, started), end="")
                elif time.monotonic() - reported >= TICK:
                    reported = time.monotonic()
                    self.say(self._progress(label, started))
        finally:
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait()
        if sys.stdout.isatty():
            self.say(label)
        if process.returncode != 0:
            raise SetupFailed(f"{self._log_end(20)}\n{label}: failed; all of its output is in {self._log}")

    @staticmethod
    def _still_runs(process: subprocess.Popen[bytes]) -> bool:
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _progress(self, label: str, started: float) -> str:
        """Return the stage's label and what pip is doing."""
        with self._log.open(errors="replace") as log:
            lines: list[str] = []
            for line in log:
                if line.startswith("$ "):
                    lines.clear()  # An earlier stage's.
                lines.append(line)
        site_packages = next(self._log.parent.glob("lib/python*/site-packages"), None)
        doing = pip_log.progress(lines, site_packages, started)
        return f"{label}: {doing[:60]}" if doing else label

    def _log_end(self, lines: int) -> str:
        with self._log.open(errors="replace") as log:
            return "\n".join(line.rstrip() for line in deque(log, maxlen=lines))


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back what would end the set-up until the block's end: a process that starts must not be missed."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: found for number in numbers if callable(found := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)
