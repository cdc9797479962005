"""The commands `keys add`, `keys list` and `keys revoke`."""

import datetime as dt
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.common import refused

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys in a file.")
KEPT: Final = dt.timedelta(days=7)  # how long a key that is replaced stays valid

KeysFile = Annotated[
    Path, typer.Option("--file", envvar="GATEWAY_KEYS_FILE", help="The keys file; created if there is none.")
]


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    file: KeysFile,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class of the file with its limits.")
    ] = None,
    *,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Make a new key for a name that has one; both are valid for a while."),
    ] = False,
    until: Annotated[
        dt.datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"],
            help="With --replace: when the old key ends (UTC); a past date: at once. Default: in 7 days.",
        ),
    ] = None,
) -> None:
    """Make a key and print it once; the file keeps only its hash."""
    from gateway.access.keys import KeysError, add

    if until is not None and not replace:
        raise refused("--until: it is for --replace")
    ends = until.replace(tzinfo=dt.UTC) if until else dt.datetime.now(dt.UTC).replace(microsecond=0) + KEPT
    try:
        sys.stdout.write(add(file, name, class_name, replaced_until=ends if replace else None) + "\n")
    except KeysError as error:
        raise refused(str(error)) from None


@keys.command("list")
def list_keys(file: KeysFile) -> None:
    """List the names in the file."""
    from gateway.access.keys import CallerClass, KeysError, load

    try:
        found = load(file, CallerClass()).by_hash.values()
    except KeysError as error:
        raise refused(str(error)) from None
    table = Table("name", "class", "created", "valid until")
    for key in found:
        until = f"{key.until:%Y-%m-%d %H:%M} UTC" if key.until else ""
        table.add_row(key.name, key.caller_class.name, str(key.created or ""), until)
    Console().print(table)


@keys.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="Whose key.")], file: KeysFile) -> None:
    """Remove all keys of a name from the file; a running gateway notices within two seconds."""
    from gateway.access.keys import KeysError, revoke

    try:
        revoke(file, name)
    except KeysError as error:
        raise refused(str(error)) from None
