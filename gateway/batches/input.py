"""Reads a batch's input file: checks and stores its lines, some at a time."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from typing import Final

from gateway.errors import NotFound
from gateway.schema.batches import ERRORS_MAX, InputLine, LineError, read_line
from gateway.storage.batches import Batches, Owned
from gateway.storage.files import Files, StoredFile

LINES_MAX: Final = 50_000  # OpenAI's limit
AT_ONCE: Final = 500  # lines parsed or stored at once, so that other work gets its turn between


class Input:
    """Reads the input files of batches. A line has at most `line_max_bytes`."""

    def __init__(self, batches: Batches, files: Files, line_max_bytes: int) -> None:
        self._batches = batches
        self._files = files
        self._line_max_bytes = line_max_bytes

    async def store(self, owned: Owned) -> tuple[int, list[LineError]]:
        """Store the lines of a batch's input; return how many there are, and the errors found.

        If the batch is cancelled meanwhile, the number is that of the lines stored until then.
        """
        await self._batches.clear_lines(owned.batch.id)
        try:
            file = await self._files.get(owned.batch.input_file_id, owned.caller)
            total, errors = await self._store_lines(owned, file)
        except NotFound as error:
            return 0, [LineError("input_file_not_found", error.message, param="input_file_id")]
        return total, errors[:ERRORS_MAX]

    async def _store_lines(self, owned: Owned, file: StoredFile) -> tuple[int, list[LineError]]:
        names: set[str] = set()
        total = 0
        errors: list[LineError] = []
        async for some in self._read(file, owned.batch.endpoint):
            if total + len(some) > LINES_MAX:
                message = f"The input file has more requests than the limit of {LINES_MAX}."
                return total, [LineError("too_many_requests", message)]
            lines = [line for line in some if isinstance(line, InputLine)]
            errors += [line for line in some if isinstance(line, LineError)]
            for line in lines:
                if line.custom_id in names:
                    errors.append(_duplicate(line))
                names.add(line.custom_id)
            if len(errors) >= ERRORS_MAX:
                break
            if not errors and not await self._batches.add_lines(owned.batch.id, lines):
                return total, []
            total += len(some)
        if not errors and not total:
            errors = [LineError("empty_file", "The input file has no requests.")]
        return total, sorted(errors, key=lambda error: error.line or 0)

    async def _read(self, file: StoredFile, endpoint: str) -> AsyncIterator[list[InputLine | LineError]]:
        """Yield the parsed lines of a file, some at a time; empty lines are skipped."""
        number = 1
        pieces: list[bytes] = []  # of the current, incomplete line
        size = 0  # of `pieces`
        async for chunk in self._files.chunks(file):
            first, *others = chunk.split(b"\n")
            pieces.append(first)
            size += len(first)
            if size > self._line_max_bytes:
                yield [self._too_long(number)]
                return
            if others:
                *lines, rest = b"".join(pieces), *others
                async for some in self._parsed(lines, number, endpoint):
                    yield some
                number += len(lines)
                pieces, size = [rest], len(rest)
        async for some in self._parsed([b"".join(pieces)], number, endpoint):
            yield some

    async def _parsed(
        self, lines: list[bytes], first: int, endpoint: str
    ) -> AsyncIterator[list[InputLine | LineError]]:
        for at in range(0, len(lines), AT_ONCE):
            yield await asyncio.to_thread(self._parse, lines[at : at + AT_ONCE], first + at, endpoint)

    def _parse(self, lines: list[bytes], first: int, endpoint: str) -> list[InputLine | LineError]:
        return [
            self._too_long(number) if len(line) > self._line_max_bytes else read_line(line, number, endpoint)
            for number, line in enumerate(lines, first)
            if line.removeprefix(BOM_UTF8 if number == 1 else b"").strip()
        ]

    def _too_long(self, number: int) -> LineError:
        return LineError(
            "line_too_long", f"This line is over the limit of {self._line_max_bytes} bytes.", number
        )


def _duplicate(line: InputLine) -> LineError:
    message = "The custom_id for this request is a duplicate of another request."
    return LineError("duplicate_custom_id", message, line.number, "custom_id")
