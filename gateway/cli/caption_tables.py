"""Tables of captions, JSON lines or CSV, that get longer by a line at a time and survive a kill."""

import csv
import io
import os
from pathlib import Path
from typing import Final

import orjson

from gateway.cli.atomic import write_atomically
from gateway.cli.caption_outputs import ImageFile
from gateway.cli.common import BadInput
from gateway.cli.line_files import append, not_ours, read_lines

COLUMNS: Final = ("file_name", "text", "prompt")  # `file_name` is what Hugging Face's imagefolder reads


class Table:
    """One file with a line for each image, which gets longer by a line at a time."""

    def __init__(self, path: Path, prompt: str) -> None:
        self.path = path
        self._prompt = prompt
        self._rows = self._load()
        if not all(isinstance(row.get(column), str) for row in self._rows.values() for column in COLUMNS):
            raise not_ours(path)

    def _load(self) -> dict[str, dict[str, str]]:
        raise NotImplementedError

    def _line(self, row: dict[str, str]) -> bytes:
        raise NotImplementedError

    def check(self, image: ImageFile) -> None:
        """Accept every image."""

    def check_prompt(self) -> None:
        """Raises BadInput if there are answers to another prompt."""
        others = [row["prompt"] for row in self._rows.values() if row["prompt"] != self._prompt]
        if others:
            raise BadInput(
                f"{self.path}: {len(others)} captions there are answers to another --prompt, "
                f"{others[0]!r}; ask the same, or replace them with --overwrite"
            )

    def read(self, image: ImageFile) -> str | None:
        row = self._rows.get(image.name)
        return row["text"] if row else None

    def write(self, image: ImageFile, text: str) -> None:
        row = dict(zip(COLUMNS, (image.name, text, self._prompt), strict=True))
        append(self.path, (b"" if self.path.exists() else self._head()) + self._line(row))
        self._rows[image.name] = row

    def replace(self, captions: dict[str, str]) -> None:
        """Write a table of these captions in place of the one that is there."""
        rows = {
            name: dict(zip(COLUMNS, (name, text, self._prompt), strict=True))
            for name, text in captions.items()
        }
        write_atomically(self.path, self._head() + b"".join(map(self._line, rows.values())))
        self._rows = rows

    def _head(self) -> bytes:
        return b""


class JsonlTable(Table):
    """JSON lines."""

    def _load(self) -> dict[str, dict[str, str]]:
        return read_lines(self.path, "file_name")

    def _line(self, row: dict[str, str]) -> bytes:
        return orjson.dumps(row) + b"\n"


class CsvTable(Table):
    """Comma-separated values as RFC 4180 has them, in UTF-8."""

    def _load(self) -> dict[str, dict[str, str]]:
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        if self._head().startswith(content):  # A kill cut even that short.
            self.path.unlink()
            return {}
        if not content.startswith(self._head()):
            raise not_ours(self.path)
        complete = content[: _end_of_records(content)]
        if len(complete) < len(content):  # A kill cut the last one short.
            os.truncate(self.path, len(complete))
        try:
            rows = list(csv.DictReader(io.StringIO(complete.decode(), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error):
            raise not_ours(self.path) from None
        return {row["file_name"]: row for row in rows}

    def _head(self) -> bytes:
        return _csv_line(COLUMNS)

    def _line(self, row: dict[str, str]) -> bytes:
        return _csv_line(tuple(row[column] for column in COLUMNS))


def _csv_line(values: tuple[str, ...]) -> bytes:
    page = io.StringIO(newline="")
    csv.writer(page).writerow(values)
    return page.getvalue().encode()


def _end_of_records(content: bytes) -> int:
    """Return where the last complete record ends: a newline with an even number of quotes before it."""
    end = at = quotes = 0
    for line in content.splitlines(keepends=True):
        at += len(line)
        quotes += line.count(b'"')
        if line.endswith(b"\n") and quotes % 2 == 0:
            end = at
    return end
