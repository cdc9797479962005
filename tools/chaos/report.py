"""What chaos found, as a table for people and as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from tools.bench.report import machine
from tools.chaos.load import CALLERS, PATIENCE, Tally
from tools.chaos.outcomes import ANSWERED, CUT, FAILED, HUNG, LOST, NEVER, REFUSED, RESET, WRONG
from tools.chaos.stand import Peak

SHOWN = (ANSWERED, REFUSED, FAILED, WRONG, LOST, RESET, CUT, HUNG)
COLUMNS = ("fault", "sent", *SHOWN, "slowest (s)", "recovered (s)", "gateway (MiB)", "engine (MiB)")
PAGE = Path(__file__).parent / "page.md"


@dataclass(slots=True)
class Row:
    """One fault, and what came of it."""

    fault: str
    honest: Tally
    attacker: Tally
    peak: Peak
    note: str
    excused: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # broken promises that the counts do not show

    @property
    def cells(self) -> tuple[str, ...]:
        counts = [str(self.honest.counts[outcome]) for outcome in SHOWN]
        recovered = "" if self.honest.recovered is None else f"{self.honest.recovered:.1f}"
        memory = (f"{size / 2**20:.0f}" for size in (self.peak.gateway, self.peak.engine))
        return (
            self.fault,
            str(self.honest.sent),
            *counts,
            f"{self.honest.slowest:.1f}",
            recovered,
            *memory,
        )

    @property
    def line(self) -> str:
        """The row in the page's table."""
        return f"| {' | '.join(self.cells)} |"

    @property
    def attack(self) -> str:
        """The row in the page's table of attacks, empty where there is nothing to tell."""
        if not self.note and not self.attacker.sent:
            return ""
        own = ", ".join(f"{count} {outcome}" for outcome, count in self.attacker.counts.most_common())
        return f"| {self.fault} | {self.note} | {own} |"

    @property
    def broken(self) -> list[str]:
        """Return the promises that were not kept."""
        counts = self.honest.counts
        most = dict.fromkeys(self.excused, CALLERS)  # each caller has one request at a time
        bad = [f"{counts[one]} {one}" for one in NEVER if counts[one] > most.get(one, 0)]
        if self.honest.hit is not None and self.honest.recovered is None:
            bad.append("not recovered")
        if self.attacker.counts[HUNG]:
            bad.append(f"{self.attacker.counts[HUNG]} of the attacker's hung")
        if not counts[ANSWERED]:
            bad.append("nothing was answered")
        return [f"{self.fault}: {what}" for what in (*bad, *self.others)]


def table(rows: Sequence[Row]) -> Table:
    made = Table(*COLUMNS)
    for row in rows:
        made.add_row(*row.cells)
    return made


def page(rows: Sequence[Row], *, seconds: float, held: str, beside: str) -> str:
    """Return docs/reports/chaos.md."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    lines += [row.line for row in rows]
    attacks = ["| fault | what | its own requests |", "| --- | --- | --- |"]
    attacks += [row.attack for row in rows if row.attack]
    here = machine()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    return PAGE.read_text().format(
        day=datetime.now(tz=UTC).date(),
        command="make chaos ARGS=--write",
        minutes=seconds / 60,
        machine=f"{here['cpu']}, {here['cores']} cores ({versions})",
        beside=beside,
        callers=CALLERS,
        table="\n".join(lines),
        attacks="\n".join(attacks),
        held=held,
        patience=PATIENCE,
    )


def replaced(told: str, rows: Sequence[Row]) -> str:
    """Return the page `told` with the rows of these faults replaced, which it says."""
    for row in rows:
        counts, *attack = [line for line in told.splitlines() if line.startswith(f"| {row.fault} |")]
        told = told.replace(counts, row.line)
        for line in attack:
            told = told.replace(line, row.attack)
    names = ", ".join(row.fault for row in rows)
    return f"{told}\nMeasured again by itself on {datetime.now(tz=UTC).date()}: {names}.\n"
