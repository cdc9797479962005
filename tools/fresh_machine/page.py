"""Writes docs/reports/fresh-machine.md."""

import datetime as dt
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.fresh_machine.commands import Outcome
from tools.fresh_machine.machine import PACKAGES

PAGE = Path(__file__).parents[2] / "docs/reports/fresh-machine.md"
NAMES = {"bookworm": "Debian 12", "trixie": "Debian 13"}

HEAD = """\
# Fresh machines

Both commands of the README on Debian machines that nobody prepared: debootstrap's smallest system and
`apt-get install {packages}`. They have no compiler, no `python3-venv` and no libnuma. Each user works in a
clone of its own. "Ready" is the time from typing the command to the first 200 of `/health/ready`, all of it
fetched and installed. Then every kind of request is sent twice, and the kind that differs most is shown.

`make fresh-machine ARGS=--write` (as root) wrote this page on {date} for commit `{commit}`.

| machine | user | command | result | ready | kinds | first, second |
| --- | --- | --- | --- | --- | --- | --- |
"""


def head() -> str:
    """Return the repository's commit, which is the one that the machines clone."""
    command = ["git", "-C", str(PAGE.parent), "rev-parse", "--short", "HEAD"]
    return subprocess.check_output(command, text=True).strip()


def write(outcomes: Sequence[Outcome], commit: str) -> None:
    PAGE.write_text(text(outcomes, commit, dt.datetime.now(dt.UTC).date()))


def text(outcomes: Sequence[Outcome], commit: str, date: dt.date) -> str:
    top = HEAD.format(packages=" ".join(PACKAGES), date=date, commit=commit)
    return top + "".join(map(row, outcomes))


def row(outcome: Outcome) -> str:
    result = outcome.problem or "works"
    if outcome.summary:
        result += f": {outcome.summary}".replace("|", "\\|")
    worst = max(outcome.timings, key=lambda timing: timing.first - timing.second, default=None)
    timed = f"`{worst.kind}`: {worst.first:.2f} s, {worst.second:.2f} s" if worst else ""
    ready = f"{outcome.seconds:.0f} s" if outcome.seconds else ""
    cells = (
        NAMES.get(outcome.machine, outcome.machine),
        outcome.user,
        f"`{outcome.command}`",
        result,
        ready,
        str(len(outcome.timings) or ""),
        timed,
    )
    return f"| {' | '.join(cells)} |\n"
