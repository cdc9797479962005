"""Answers a file of requests in OpenAI's batch format on a running gateway.

Each answer is in the output as soon as it is there, so that the same command continues after a stop.
"""

import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson
from rich.console import Console

from gateway.cli import client
from gateway.cli.common import BadInput
from gateway.cli.line_files import append, read_lines
from gateway.cli.parallel import Tally, run_all
from gateway.schema.batches import InputLine, LineError, read_line, result_line

STANDARD: Final = Path("-")  # standard input or output
HTTP_ERRORS: Final = 400  # HTTP statuses from here on are errors


async def run(source: Path, target: Path, server: client.Server, tally: Tally, console: Console) -> None:
    """Answer the lines of `source` into `target`; either may be STANDARD.

    Raises BadInput and openai.APIError.
    """
    finished = {} if target == STANDARD else read_lines(target, "custom_id")
    waiting = [line for line in _read(source) if line.custom_id not in finished]
    tally.before = len(finished)
    async with server.async_client() as made:

        async def answer(line: InputLine) -> bool:
            status, body = await client.post(made, _url(line), orjson.loads(line.request))
            _write(target, result_line(f"batch_req_{uuid4().hex}", line.custom_id, status=status, body=body))
            return status < HTTP_ERRORS

        await run_all(waiting, answer, server.at_once, tally, console)


def _write(target: Path, line: bytes) -> None:
    if target != STANDARD:
        append(target, line)
        return
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _url(line: InputLine) -> str:
    """Return a line's URL as the client wants it: after the `/v1` that its base URL ends with."""
    return line.url.removeprefix("/v1")


def _read(source: Path) -> list[InputLine]:
    if source == STANDARD:
        return list(_parsed(sys.stdin.buffer, "standard input"))
    try:
        with source.open("rb") as file:
            return list(_parsed(file, str(source)))
    except OSError as error:
        raise BadInput(f"{source}: {error.strerror}") from None


def _parsed(file: Iterable[bytes], source: str) -> Iterator[InputLine]:
    names: set[str] = set()
    for number, raw in enumerate(file, 1):
        if not raw.removeprefix(BOM_UTF8 if number == 1 else b"").strip():
            continue
        line = read_line(raw, number)
        if isinstance(line, LineError):
            raise BadInput(f"{source}, line {number}: {line.message}")
        if line.custom_id in names:
            raise BadInput(f"{source}, line {number}: custom_id {line.custom_id!r} appears twice")
        names.add(line.custom_id)
        yield line
