"""`python -m tools.bench`: this gateway and vLLM's own server, side by side on this machine."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tools.bench import curve, overload, report, turns
from tools.bench.bodies import KINDS
from tools.bench.rounds import Rounds
from tools.bench.targets import fallen
from tools.bench.workloads import WORKLOADS

HERE = Path(__file__).parent
RECORDED = HERE / "recorded.json"


def main(  # noqa: PLR0917  # each is an option of the command, given by name
    workloads: Annotated[str, typer.Option(help="Names, separated by commas.")] = ",".join(WORKLOADS),
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each server.")] = 3,
    profile: Annotated[str, typer.Option(help="Profile, or the path of one.")] = "demo",
    out: Annotated[Path, typer.Option(help="Folder for JSON, chart and logs.")] = HERE / "results",
    quick: Annotated[
        bool, typer.Option("--quick", help="One small round, held against the recorded one.")
    ] = False,
    record: Annotated[bool, typer.Option("--record", help="Write recorded.json from this run.")] = False,
    engine: Annotated[bool, typer.Option(help="The engine alone, as a third column.")] = True,
    py_spy: Annotated[bool, typer.Option("--py-spy", help="One more round: CPU by stage.")] = False,
    curves: Annotated[
        bool, typer.Option("--curve", help="Instead: from 1 to 256 requests at once; curve.json, curve.png.")
    ] = False,
    overloaded: Annotated[
        bool, typer.Option("--overload", help="Instead: 0.5 to 4 times what each server can do.")
    ] = False,
    long_chats: Annotated[
        bool, typer.Option("--turns", help="Instead: the k-th turn of a chat with images.")
    ] = False,
    kinds: Annotated[str, typer.Option(help="Of --curve, separated by commas.")] = ",".join(KINDS),
) -> None:
    """Compare, print a table, and write bench.json and bench.png."""
    console = Console(width=160)
    out.mkdir(parents=True, exist_ok=True)
    if curves:
        curve.show(curve.run(profile, _names(kinds, KINDS), out, console, quick=quick), console)
    if overloaded:
        overload.show(overload.run(profile, out, console, quick=quick), console)
    if long_chats:
        turns.show(turns.run(profile, out, console, quick=quick), console)
    if curves or overloaded or long_chats:
        return
    chosen = _names(workloads, WORKLOADS)
    results = Rounds(profile, chosen, out, console, quick=quick).run(
        1 if quick else rounds, engine=engine and not quick, sample=py_spy
    )
    report.show(results, console)
    report.write(results, out)
    console.print(f"written to {out}")
    recorded_on = json.loads(RECORDED.read_text())
    machine = report.machine()
    if record:
        recorded_on[_kind(machine)] = {"machine": machine, "ratios": results.ratios}
        RECORDED.write_text(json.dumps(recorded_on, indent=1) + "\n")
    elif quick and _kind(machine) in recorded_on:
        recorded = recorded_on[_kind(machine)]["ratios"]
        words = _fallen(results, recorded)
        if words:
            _tell(console, "measured again", words)
            again = sorted({line.split()[0] for line in words}, key=chosen.index)
            results = Rounds(profile, again, out, console, quick=True).run(1, engine=False, sample=False)
            words = _fallen(results, recorded)
        if words:
            _tell(console, "slower than recorded", words)
            raise typer.Exit(1)


def _names(given: str, known: Collection[str]) -> list[str]:
    chosen = [name.strip() for name in given.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in known]:
        raise typer.BadParameter(f"{', '.join(unknown)}; there are {', '.join(known)}")
    return chosen


def _kind(machine: Mapping[str, Any]) -> str:
    """Return which record `machine` is held against.

    Without bfloat16 instructions the engine takes several times as long, so a server's own share is smaller.
    """
    return "bfloat16" if machine["bfloat16"] else "no bfloat16"


def _fallen(results: report.Results, recorded: Mapping[str, float]) -> list[str]:
    ran = {name: ratio for name, ratio in recorded.items() if name.split()[0] in results.ours}
    return fallen(results.ratios, ran)


def _tell(console: Console, verdict: str, words: Sequence[str]) -> None:
    for line in words:
        console.print(f"[bold red]{verdict}[/bold red] {line}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
