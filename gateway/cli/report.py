"""Runs a command of many requests, and prints how it went."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

import typer

from gateway.cli.client import Server, exits_on_errors
from gateway.cli.common import ExitCode, errors
from gateway.cli.parallel import Tally

STOPPED: Final = "stopped; run it again to continue"


def run_and_report(server: Server, run: Callable[[Tally], Coroutine[Any, Any, None]], target: str) -> None:
    """Run and print the tally. Exits with FAILED if requests failed, with 128 + the signal after a signal."""
    tally = Tally()
    try:
        with exits_on_errors(server):
            asyncio.run(run(tally))
    except KeyboardInterrupt:  # before the first request
        errors.print(STOPPED)
        raise typer.Exit(128 + signal.SIGINT) from None
    except typer.Exit:
        if tally.done or tally.failed:
            _print(tally, target)
        raise
    _print(tally, target)
    if tally.stopped is not None:
        errors.print(STOPPED)
        raise typer.Exit(128 + tally.stopped)
    if tally.failed:
        raise typer.Exit(ExitCode.FAILED)


def _print(tally: Tally, target: str) -> None:
    for name, problem in tally.problems.items():
        errors.print(f"{name}: {problem}", markup=False, highlight=False)
    errors.print(
        f"{target}: {tally.done} answered, {tally.failed} failed, {tally.before} were there before",
        markup=False,
        highlight=False,
    )
