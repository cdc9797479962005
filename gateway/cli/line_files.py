"""Files that grow by one line at a time and survive a kill."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from gateway.cli.common import BadInput


def read_lines(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """Return the JSON lines by their field `key`, and remove a last line that a kill cut short.

    Raises BadInput if the file holds anything else.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    cut = b""
    if lines and not lines[-1].endswith(b"\n") and lines[-1].startswith(b'{"'):
        cut = lines.pop()
    try:
        found = [orjson.loads(line) for line in lines if line.strip()]
        by_key = {line[key]: line for line in found}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise not_ours(path) from None
    with suppress(orjson.JSONDecodeError):
        orjson.loads(cut)  # A cut line is no JSON; this is someone else's file.
        raise not_ours(path)
    if cut:
        os.truncate(path, len(content) - len(cut))
    return by_key


def not_ours(path: Path) -> BadInput:
    return BadInput(f"{path}: it exists already and is not the output of this command")


def append(path: Path, line: bytes) -> None:
    """Add a line in one piece. Raises OSError; the file is then as before."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(file).st_size
        try:
            while line:
                line = line[os.write(file, line) :]
        except OSError:  # The disk is full: part of the line may be there.
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)
