"""The commands `keys add`, `keys list` and `keys revoke`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.common import refused

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys in a file.")
KeysFile = Annotated[
    Path, typer.Option("--file", envvar="GATEWAY_KEYS_FILE", help="The keys file; made where there is none.")
]


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    file: KeysFile,
    klass: Annotated[str | None, typer.Option("--class", help="Class of the file with its limits.")] = None,
) -> None:
    """Make a key and print it once; the file keeps only its hash."""
    from gateway.access.keys import KeysError, add

    try:
        sys.stdout.write(add(file, name, klass) + "\n")
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
    table = Table("name", "class", "created")
    for key in found:
        table.add_row(key.name, key.klass.name, str(key.created or ""))
    Console().print(table)


@keys.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="Whose key.")], file: KeysFile) -> None:
    """Remove a key from the file; a running gateway notices within two seconds."""
    from gateway.access.keys import KeysError, revoke

    try:
        revoke(file, name)
    except KeysError as error:
        raise refused(str(error)) from None
