"""Captions the images of a folder on a running gateway.

A caption is kept as soon as it is there. A killed run is continued by the same command: no image that has a
caption is asked about again.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console

from gateway.cli import client, question
from gateway.cli.caption_outputs import CannotKeep, Format, ImageFile
from gateway.cli.caption_store import CaptionStore
from gateway.cli.common import BadInput
from gateway.cli.contact_sheet import write_sheet
from gateway.cli.parallel import Tally, run_all

SUFFIXES: Final = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)


@dataclass(frozen=True, slots=True)
class CaptionTask:
    """What to ask about each image of a folder, and where the answers go.

    Without a `model` it is the first that is served; without an `output`, a table is in the folder.
    """

    prompt: str
    prefix: str
    suffix: str
    formats: tuple[Format, ...]
    output: Path | None
    contact_sheet: Path | None
    recursive: bool
    overwrite: bool
    model: str | None
    max_tokens: int


async def run(folder: Path, task: CaptionTask, server: client.Server, tally: Tally, console: Console) -> None:
    """Caption each image of `folder` that has no caption yet; the tally says which failed, and why.

    Raises openai.APIError, and BadInput if there is no image or if captions of another prompt are there.
    """
    for name, path in (("--output", task.output), ("--contact-sheet", task.contact_sheet)):
        if path is not None and not path.parent.is_dir():
            raise BadInput(f"{name}: there is no folder {path.parent}")
    images = list(_images(folder, recursive=task.recursive))
    if not images:
        raise BadInput(f"{folder}: there are no images in this folder")
    with _locked(folder):
        store = CaptionStore(folder, task)
        waiting = _without_caption(images, store, tally)
        try:
            if waiting:
                await _ask(waiting, task, store, server, tally=tally, console=console)
            if tally.stopped is None:
                store.finish()
        finally:
            if task.contact_sheet is not None:
                write_sheet(task.contact_sheet, images, store.captions, tally.problems)


def _without_caption(images: list[ImageFile], store: CaptionStore, tally: Tally) -> list[ImageFile]:
    """Return the images to ask about; count those that have a caption and those that cannot have one."""
    waiting = []
    for image in images:
        try:
            if store.has(image):
                tally.before += 1
            else:
                waiting.append(image)
        except CannotKeep as error:
            tally.problems[image.name] = str(error)
            tally.failed += 1
    return waiting


async def _ask(
    images: list[ImageFile],
    task: CaptionTask,
    store: CaptionStore,
    server: client.Server,
    *,
    tally: Tally,
    console: Console,
) -> None:
    async with server.async_client() as made:
        models = made.with_options(max_retries=0).models
        # A misspelt model ends the run here; otherwise every image would fail.
        model = (await models.retrieve(task.model)).id if task.model else (await models.list()).data[0].id

        async def describe(image: ImageFile) -> bool:
            try:
                url = await asyncio.to_thread(question.file_url, image.path)
            except OSError as error:
                tally.problems[image.name] = error.strerror or str(error)
                return False
            body = question.request(model, [url], task.prompt, task.max_tokens)
            try:
                text = _caption(*await client.post(made, "/chat/completions", body))
                store.write(image, f"{task.prefix}{text}{task.suffix}")
            except CannotKeep as error:
                tally.problems[image.name] = str(error)
                return False
            return True

        await run_all(images, describe, server.at_once, tally, console)


def _caption(status: int, answer: bytes) -> str:
    """Return the answer's text in one line, as trainers read captions. Raises CannotKeep if there is none."""
    content: dict[str, Any] = orjson.loads(answer)
    if status != 200:  # noqa: PLR2004  # HTTP's OK
        error = content["error"]
        # Without the field's name, which says nothing about the file.
        message = str(error.get("message")).removeprefix(f"{error.get('param')}: ")
        raise CannotKeep(f"{status} {message}")
    try:
        text = " ".join(content["choices"][0]["message"]["content"].split())
    except (AttributeError, IndexError, KeyError, TypeError):
        raise CannotKeep("the answer is not a chat completion") from None
    if not text:
        raise CannotKeep("the answer is empty")
    return text


def _images(folder: Path, *, recursive: bool) -> Iterator[ImageFile]:
    """Yield the images in order of their names, without hidden files and folders."""
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            # In a table, the bytes of a name that are not UTF-8 become question marks.
            yield ImageFile(path, below.as_posix().encode(errors="replace").decode())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second run out of the folder. Raises BadInput if there is one."""
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise BadInput(f"{folder}: another `caption` is running there") from None
    except OSError:  # A network's file system may have no locks.
        pass
    try:
        yield
    finally:
        os.close(file)
