"""Runs a command of many requests, and prints how it went."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import typer

from gateway.cli.client import Server, exits_on_errors
from gateway.cli.common import ExitCode, errors
from gateway.cli.parallel import Tally


def run_and_report(server: Server, run: Coroutine[Any, Any, Tally], target: str) -> None:
    """Run and print the tally. Exits with FAILED if requests failed, with 128 + the signal after a signal."""
    try:
        with exits_on_errors(server):
            tally = asyncio.run(run)
    except KeyboardInterrupt:  # before the first request
        errors.print("stopped; run it again to continue")
        raise typer.Exit(128 + signal.SIGINT) from None
    for name, problem in tally.problems.items():
        errors.print(f"{name}: {problem}", markup=False, highlight=False)
    errors.print(
        f"{target}: {tally.done} answered, {tally.failed} failed, {tally.before} were there before",
        markup=False,
        highlight=False,
    )
    if tally.stopped is not None:
        errors.print("stopped; run it again to continue")
        raise typer.Exit(128 + tally.stopped)
    if tally.failed:
        raise typer.Exit(ExitCode.FAILED)
