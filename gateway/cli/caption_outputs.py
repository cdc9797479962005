"""The formats of captions, and the interface that all of them have."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class Format(StrEnum):
    """The formats of captions, by the names of `--format`."""

    JSONL = "jsonl"
    CSV = "csv"
    TXT = "txt"
    XMP = "xmp"
    EMBEDDED = "embedded"


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
        """Raises CannotKeep if it is known before asking that the caption cannot be kept."""

    def read(self, image: ImageFile) -> str | None:
        """Return the caption that is there. Raises CannotKeep."""

    def write(self, image: ImageFile, text: str) -> None:
        """Keep the caption, in place of another one.

        Raises CannotKeep; and OSError if those of other images cannot be kept either.
        """
