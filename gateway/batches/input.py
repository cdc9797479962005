"""A batch's input file: its lines, checked and stored one by one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from gateway.errors import NotFound
from gateway.schema.batches import ERRORS_MAX, InputLine, LineError, read_line
from gateway.storage.batches import Batches, Owned
from gateway.storage.files import Files

LINES_MAX: Final = 50_000  # OpenAI's


class Input:
    """Reads the input files of batches. No line may have more than `line_max_bytes`."""

    def __init__(self, batches: Batches, files: Files, line_max_bytes: int) -> None:
        self._batches = batches
        self._files = files
        self._line_max_bytes = line_max_bytes

    async def store(self, owned: Owned) -> tuple[int, list[LineError]]:
        """Store the lines of a batch's input; return how many there are, and what is wrong with some."""
        await self._batches.clear_lines(owned.batch.id)
        try:
            await self._files.get(owned.batch.input_file_id, owned.caller)
        except NotFound as error:
            return 0, [LineError("input_file_not_found", error.message, param="input_file_id")]
        total, errors = await self._store_lines(owned)
        if not errors and not total:
            errors = [LineError("empty_file", "The input file has no requests.")]
        return total, errors[:ERRORS_MAX]

    async def _store_lines(self, owned: Owned) -> tuple[int, list[LineError]]:
        names: set[str] = set()
        total = 0
        errors: list[LineError] = []
        async for some in self._read(owned.batch.input_file_id, owned.batch.endpoint):
            total += len(some)
            if total > LINES_MAX:
                says = f"The input file has more requests than the limit of {LINES_MAX}."
                return total, [LineError("too_many_requests", says)]
            lines = [line for line in some if isinstance(line, InputLine)]
            errors += [line for line in some if isinstance(line, LineError)]
            for line in lines:
                if line.custom_id in names:
                    errors.append(_duplicate(line))
                names.add(line.custom_id)
            if len(errors) >= ERRORS_MAX:
                break
            if not errors:
                await self._batches.add_lines(owned.batch.id, lines)
        return total, sorted(errors, key=lambda error: error.line or 0)

    async def _read(self, file_id: str, endpoint: str) -> AsyncIterator[list[InputLine | LineError]]:
        """Yield what the lines of a file say, some at a time; empty lines are skipped."""
        rest, number = b"", 1
        async for chunk in self._files.chunks(file_id):
            *whole, rest = (rest + chunk).split(b"\n")
            if len(rest) > self._line_max_bytes:
                says = f"This line is over the limit of {self._line_max_bytes} bytes."
                yield [LineError("line_too_long", says, number + len(whole))]
                return
            yield await asyncio.to_thread(_parsed, whole, number, endpoint)
            number += len(whole)
        yield await asyncio.to_thread(_parsed, [rest], number, endpoint)


def _parsed(raw: list[bytes], first: int, endpoint: str) -> list[InputLine | LineError]:
    return [read_line(line, number, endpoint) for number, line in enumerate(raw, first) if line.strip()]


def _duplicate(line: InputLine) -> LineError:
    says = "The custom_id for this request is a duplicate of another request."
    return LineError("duplicate_custom_id", says, line.number, "custom_id")
