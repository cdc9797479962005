"""Files that grow by one line at a time and survive a kill."""

import os
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
    end = lines[-1] if lines and not lines[-1].endswith(b"\n") else b""
    if _is_cut(end):
        lines.pop()
    try:
        found = [orjson.loads(line) for line in lines if line.strip()]
        by_key = {line[key]: line for line in found}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise not_ours(path) from None
    if _is_cut(end):
        os.truncate(path, len(content) - len(end))
    elif end:  # An editor took the newline away.
        append(path, b"\n")
    return by_key


def _is_cut(line: bytes) -> bool:
    if not line.startswith(b'{"'):  # not one of this command's
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return True
    return False


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
