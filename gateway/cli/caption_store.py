"""Keeps the captions of a run in all its formats."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from gateway.cli.caption_files import EmbeddedDescriptions, TextFiles, XmpFiles
from gateway.cli.caption_outputs import Format, ImageFile, Output
from gateway.cli.caption_tables import CsvTable, JsonlTable, Table
from gateway.cli.common import BadInput

if TYPE_CHECKING:
    from gateway.cli.captions import CaptionTask

JOURNAL: Final = ".captions.part.jsonl"
TABLES: Final = {Format.JSONL: JsonlTable, Format.CSV: CsvTable}
FILES: Final[dict[Format, type[Output]]] = {
    Format.TXT: TextFiles,
    Format.XMP: XmpFiles,
    Format.EMBEDDED: EmbeddedDescriptions,
}


class CaptionStore:
    """Reads and writes captions in every format of a run.

    An image with a caption in one format has it: the others get a copy, so that a kill between two writes
    costs no second question. With `overwrite`, captions of earlier runs do not count, and those of this run
    are also in a journal: if it is stopped, the next one continues. Tables are then replaced at the end.
    """

    def __init__(self, folder: Path, task: "CaptionTask") -> None:
        self.captions: dict[str, str] = {}  # by the image's name
        self._tables = _open_tables(folder, task)
        self._files: list[Output] = [FILES[name]() for name in task.formats if name in FILES]
        self._journal = _open_journal(folder, task) if task.overwrite else None
        if not self._journal:
            for table in self._tables:
                table.check_prompt()

    def has(self, image: ImageFile) -> bool:
        """Return whether the image has a caption, which is then in every format.

        Raises CannotKeep and OSError.
        """
        outputs: list[Output] = [*self._tables, *self._files]
        for output in outputs:
            output.check(image)
        if self._journal:
            text = self._journal.read(image)
            missing = self._files if text is not None else []
        else:
            found = [output.read(image) for output in outputs]
            text = next((one for one in found if one is not None), None)
            missing = [output for output, one in zip(outputs, found, strict=True) if one is None]
        if text is None:
            return False
        for output in missing:
            output.write(image, text)
        self.captions[image.name] = text
        return True

    def write(self, image: ImageFile, text: str) -> None:
        """Keep a new caption. Raises CannotKeep and OSError."""
        tables = [self._journal] if self._journal else self._tables
        for output in (*tables, *self._files):
            output.write(image, text)
        self.captions[image.name] = text

    def finish(self) -> None:
        """Put the tables of a run with `overwrite` in place, if it has captioned anything."""
        if not self._journal:
            return
        if self.captions:
            for table in self._tables:
                table.replace(self.captions)
        self._journal.path.unlink(missing_ok=True)


def _open_tables(folder: Path, task: "CaptionTask") -> list[Table]:
    chosen = [name for name in task.formats if name in TABLES]
    if task.output is not None and len(chosen) != 1:
        raise BadInput(f"--output: it is for one --format of {' or '.join(TABLES)}; got {len(chosen)}")
    return [TABLES[name](task.output or folder / f"captions.{name}", task.prompt) for name in chosen]


def _open_journal(folder: Path, task: "CaptionTask") -> JsonlTable:
    """Return the journal of a run with `overwrite`; that of a run with other words is removed."""
    words = orjson.dumps([task.prompt, task.prefix, task.suffix, task.model]).decode()
    journal = JsonlTable(folder / JOURNAL, words)
    with suppress(BadInput):
        journal.check_prompt()
        return journal
    journal.path.unlink()
    return JsonlTable(folder / JOURNAL, words)
