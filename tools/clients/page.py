"""What a run of all clients writes: the table of docs/clients.md, and that of the README."""

import datetime as dt
import re
import sys
from pathlib import Path

from tools.clients.catalogue import CASES, CLIENTS, Client

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/clients.md"
README = ROOT / "README.md"

NOTES = "¹²³⁴⁵⁶⁷⁸⁹"
IMPOSSIBLE = [(client, case) for client in CLIENTS for case in client.cannot]

Results = dict[str, str]  # case → "yes", or why it failed


def table(results: dict[str, Results]) -> str:
    lines = ["| client | " + " | ".join(CASES) + " |", "| --- |" + " --- |" * len(CASES)]
    for client in CLIENTS:
        if (cases := results.get(client.name)) is not None:
            cells = [_cell(client, case, cases.get(case)) for case in CASES]
            lines.append(f"| {client.name} (`{client.packages[0]}`) | " + " | ".join(cells) + " |")
    notes = [
        f"{NOTES[place]} {client.name}, {case}: {client.cannot[case]}"
        for place, (client, case) in enumerate(IMPOSSIBLE)
        if client.name in results
    ]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _cell(client: Client, case: str, told: str | None) -> str:
    if told is None and case in client.cannot:
        return f"–{NOTES[IMPOSSIBLE.index((client, case))]}"
    return "" if told is None else "yes" if told == "yes" else "**no**"


def write(results: dict[str, Results]) -> None:
    """Replace the page's table, between its marks, and the README's row of clients; note the day."""
    today = dt.datetime.now(dt.UTC).date()
    failures = [
        f"- {name}, {case}: {why}"
        for name, cases in results.items()
        for case, why in cases.items()
        if why != "yes"
    ]
    told = f"Run on {today}, Python {sys.version.split()[0]}.\n\n{table(results)}" + (
        "\n" + "\n".join(failures) + "\n" if failures else ""
    )
    page = PAGE.read_text()
    PAGE.write_text(
        re.sub(
            r"(<!-- matrix -->\n).*?(<!-- /matrix -->)",
            lambda found: found[1] + told + found[2],
            page,
            flags=re.DOTALL,
        )
    )
    README.write_text(re.sub(_SHORT, lambda found: found[1] + short(results), README.read_text()))


_SHORT = r"(\| Python \| JavaScript \|\n\| --- \| --- \|\n).*\n"


def short(results: dict[str, Results]) -> str:
    """Return the row of the README's table: the clients by language, and what each failed at."""
    kinds = ("python", "node")
    cells = (
        ", ".join(_named(client, results[client.name]) for client in CLIENTS if client.kind == kind)
        for kind in kinds
    )
    return "| " + " | ".join(cells) + " |\n"


def _named(client: Client, cases: Results) -> str:
    version = re.split("==|@", client.packages[0])[1]
    named = f"{re.sub(r' (2|[(]JavaScript[)])$', '', client.name)} {version}"
    return f"{named} (not: {', '.join(bad)})" if (bad := failed(client, cases)) else named


def failed(client: Client, cases: Results) -> list[str]:
    """Return the cases that the client should have shown and did not."""
    return [case for case in CASES if case not in client.cannot and cases.get(case) != "yes"]
