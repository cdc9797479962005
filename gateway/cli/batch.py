"""The command `batch`: a file of requests."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import errors
from gateway.cli.options import LOCAL, APIKey, AtOnce, BaseURL


def batch(
    source: Annotated[Path, typer.Argument(help="Requests in OpenAI's batch format; - is standard input.")],
    target: Annotated[
        Path, typer.Argument(help="Answers; requests it already has are skipped. - is standard output.")
    ],
    base_url: BaseURL = LOCAL,
    at_once: AtOnce = 16,
    api_key: APIKey = "",
) -> None:
    """Answer a file of requests on a running gateway. If stopped, run it again to continue."""
    from gateway.cli import batch_file
    from gateway.cli.client import Server
    from gateway.cli.report import run_and_report

    server = Server(base_url, api_key, at_once)
    name = "standard output" if target == batch_file.STANDARD else str(target)
    run_and_report(server, lambda tally: batch_file.run(source, target, server, tally, errors), name)
