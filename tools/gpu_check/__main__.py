"""`make gpu-check`: does LLaVA-1.5 come up on this machine's GPU, answer right, and how fast; one report."""

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from engine_config import machine
from engine_config.choice import CannotRun, choose, installed_engine
from tools.gpu_check import steps
from tools.gpu_check.steps import Step

PROFILES = "llava-1.5-7b,llava-1.5-7b-fp8,llava-1.5-7b-4bit"
BENCH = "--rounds 1 --no-engine --workloads jpeg-336,text-32"


def main(
    profiles: Annotated[
        str, typer.Option(help="Profiles, or paths of some, separated by commas.")
    ] = PROFILES,
    bench: Annotated[str, typer.Option(help="Arguments of `make bench`; empty leaves it out.")] = BENCH,
    report: Annotated[Path, typer.Option(help="File to write.")] = Path("gpu-check.md"),
) -> None:
    """Run every check that this machine can, write the report, and exit with 1 where one failed."""
    done: list[Step] = []
    names = [name.strip() for name in profiles.split(",") if name.strip()]
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for step in checks(names, shlex.split(bench), Path(folder)):
            print(f"{step.outcome:8}{step.seconds:7.0f} s  {step.name}", flush=True)
            done.append(step)
            report.write_text(page(done))  # After each: a machine that is taken away leaves what it found.
    print(f"\n{report.read_text()}\nwritten to {report.resolve()}; send this file back")
    if any(step.outcome == "failed" for step in done):
        raise typer.Exit(1)


def checks(names: Sequence[str], bench: Sequence[str], folder: Path) -> Iterator[Step]:
    """Yield what became of each step, as it is done."""
    yield steps.run("machine", steps.this_machine)
    yield steps.run("set-up", steps.set_up)
    answers: dict[str, dict[str, str]] = {name: {} for name in names}
    for name in names:
        fits = steps.run(f"{name}: fits", partial(_fits, name))
        yield fits
        if fits.outcome != "ok":
            continue
        yield steps.run(f"{name}: weights", partial(steps.fetch, name))
        place = folder / steps.stem(name)
        yield steps.run(f"{name}: answers", partial(steps.serve, name, place, answers[name]))
    for one, other in steps.pairs(names):
        yield steps.run(f"{one} and {other} agree", partial(steps.compare, answers[one], answers[other]))
    served = next((name for name in names if answers[name]), None)
    if bench and served is not None:
        yield steps.run(f"{served}: bench", partial(steps.bench, served, folder / "bench", bench))


def page(done: Sequence[Step]) -> str:
    """Return the report in Markdown."""
    rows = [f"| {step.name} | {step.outcome} | {step.seconds:.0f} |" for step in done]
    details = [f"## {step.name}\n\n{_lines(step.text)}" for step in done if step.text]
    head = f"# GPU check, {datetime.now(UTC).date()}\n\n| check | outcome | seconds |\n| --- | --- | --- |"
    return "\n".join([head, *rows]) + "\n\n" + "\n\n".join(details) + "\n"


def _lines(text: str) -> str:
    return text if text.startswith("```") else "\n".join(f"- {line}" for line in text.splitlines())


def _fits(name: str) -> str:
    try:
        choice = choose(name, machine.look(), installed_engine())
    except CannotRun as error:
        raise steps.Skipped(str(error)) from None
    plan = choice.plan
    return f"room for {plan.chats} picture chats at once" if plan else "its size is not known beforehand"


if __name__ == "__main__":
    typer.run(main)
