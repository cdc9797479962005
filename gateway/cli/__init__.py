"""The command `llava-gateway`: serve, keys, fetch, plan, ask, batch, caption, profiles and more."""

import os
import stat
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import ask, batch, caption, keys, lists, serve, top
from gateway.cli.common import ExitCode

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=__doc__.strip(),
    epilog="Exit codes: " + "; ".join(f"{code}: {code.meaning}" for code in ExitCode) + ".",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llava-gateway {version('llava-gateway')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


app.command()(serve.serve)
app.add_typer(keys.keys, name="keys")
app.command()(serve.fetch)
app.command()(serve.plan)
app.command()(ask.ask)
app.command()(batch.batch)
app.command()(caption.caption)
app.command()(top.top)
app.command("profiles")(lists.list_profiles)
app.command("settings")(lists.list_settings)
app.command("errors")(lists.list_errors)
app.command("metrics")(lists.list_metrics)
app.command("parameters")(lists.list_parameters)


def main() -> None:
    _ensure_home()
    app()


def _ensure_home() -> None:
    """Give a user without a home one below the temporary folder.

    An id without a name (`docker run --user`) has none if HOME is not set either, and vLLM would make a
    folder named `~` in the current one.
    """
    if os.path.expanduser("~") != "~":  # noqa: PTH111  # pathlib raises
        return
    home = Path(tempfile.gettempdir(), f"llava-gateway-{os.getuid()}")
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    found = home.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):  # another user created it first
        home = Path(tempfile.mkdtemp(prefix="llava-gateway-"))
    os.environ["HOME"] = str(home)
