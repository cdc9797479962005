"""Where captions are kept: text files beside the images, or one table for all of them."""

import csv
import errno
import io
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

import orjson

from gateway.cli.common import BadInput
from gateway.cli.line_files import append, not_ours, read_lines

DISK_IS_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
COLUMNS: Final = ("file_name", "text", "prompt")  # `file_name` is what Hugging Face's imagefolder reads


class Format(StrEnum):
    """The formats of captions, by the names of `--format`."""

    JSONL = "jsonl"
    CSV = "csv"
    TXT = "txt"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image, and its path below the folder with `/` between names."""

    path: Path
    name: str


class CannotKeep(Exception):
    """The caption of this image cannot be kept; the message says why."""


class Output(Protocol):
    """A place for captions."""

    def check(self, image: ImageFile) -> None:
        """Raises CannotKeep if the image's caption cannot be kept, known before asking."""

    def read(self, image: ImageFile) -> str | None:
        """Return the caption that is there. Raises CannotKeep."""

    def write(self, image: ImageFile, text: str) -> None:
        """Keep the caption, in place of another one.

        Raises CannotKeep; and OSError if those of other images cannot be kept either.
        """


class TextFiles:
    """`NAME.txt` beside `NAME.jpg`, as kohya's trainers read them."""

    def __init__(self) -> None:
        self._images: dict[Path, str] = {}  # by text file

    def check(self, image: ImageFile) -> None:
        target = image.path.with_suffix(".txt")
        other = self._images.setdefault(target, image.name)
        if other != image.name:
            raise CannotKeep(f"{target.name} is the caption of {other}, too; rename one of the two images")

    def read(self, image: ImageFile) -> str | None:
        content = read_file(image.path.with_suffix(".txt"))
        if content is None:
            return None
        return content.decode(errors="replace").removeprefix("\ufeff").rstrip("\r\n")

    def write(self, image: ImageFile, text: str) -> None:
        write_file(image.path.with_suffix(".txt"), text.encode() + b"\n")


class Table:
    """One file with a line for each image, which gets longer by a line at a time."""

    def __init__(self, path: Path, prompt: str) -> None:
        self.path = path
        self._prompt = prompt
        self._rows = self._load()

    def _load(self) -> dict[str, dict[str, str]]:
        raise NotImplementedError

    def _line(self, row: dict[str, str]) -> bytes:
        raise NotImplementedError

    def check(self, image: ImageFile) -> None:
        """Every image has a line."""

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
        rows = read_lines(self.path, "file_name")
        if not all(isinstance(row.get(column), str) for row in rows.values() for column in COLUMNS):
            raise not_ours(self.path)
        return rows

    def _line(self, row: dict[str, str]) -> bytes:
        return orjson.dumps(row) + b"\n"


class CsvTable(Table):
    """Comma-separated values as RFC 4180 has them, in UTF-8."""

    def _load(self) -> dict[str, dict[str, str]]:
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        if not content:
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


def read_file(path: Path) -> bytes | None:
    """Return a file that belongs to one image, or None if there is none. Raises CannotKeep."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotKeep(f"{path.name}: {error.strerror}") from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file that belongs to one image. Raises CannotKeep, and OSError if the disk is full."""
    try:
        write_atomically(path, content)
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise
        raise CannotKeep(f"{path.name}: {error.strerror}") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one, never a part."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        with suppress(FileNotFoundError):
            shutil.copymode(path, part)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
