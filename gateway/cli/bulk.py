"""Many requests to a running gateway: a file of them, or one question about each picture of a folder.

What is done is in the output as soon as it is done, so that the same command goes on where it was stopped.
"""

import asyncio
import base64
import mimetypes
import time
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from uuid import uuid4

import orjson
from openai import APIError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.cli.common import uses_environment
from gateway.schema.batches import InputLine, LineError, read_line, result_line

RETRIES: Final = 8  # of a request that is refused for want of room; the client waits longer each time
ERROR_BYTES: Final = 300  # that are told of an answer that is not the gateway's
TICK: Final = 5.0  # seconds between two lines of progress where there is no terminal
PICTURES: Final = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)

_T = TypeVar("_T")


class BadInput(ValueError):
    """The input cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, and how many requests it gets at once."""

    base_url: str
    api_key: str
    at_once: int

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncOpenAI]:
        async with AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.api_key or "none",
            max_retries=RETRIES,
            timeout=900,
            http_client=DefaultAsyncHttpxClient(trust_env=uses_environment(self.base_url)),
        ) as made:
            # Otherwise each of many requests would keep retrying an address that does not answer.
            await made.with_options(max_retries=0).models.list()
            yield made


@dataclass(slots=True)
class Tally:
    """How many were done by this run, how many failed, and how many had been done before."""

    done: int = 0
    failed: int = 0
    before: int = 0


async def batch(source: Path, target: Path, server: Gateway, console: Console) -> Tally:
    """Answer the lines of `source`, in OpenAI's batch format, into `target`.

    Raises BadInput, and openai.APIConnectionError where no gateway answers.
    """
    finished = _finished(target, "custom_id")
    waiting = [line for line in _lines(source) if line.custom_id not in finished]
    tally = Tally(before=len(finished))
    async with server.client() as client:
        with target.open("ab") as out:

            async def answer(line: InputLine) -> bool:
                status, body = await _posted(client, _url(line), orjson.loads(line.request))
                told = result_line(f"batch_req_{uuid4().hex}", line.custom_id, status=status, body=body)
                _append(out, told)
                return status < 400  # noqa: PLR2004  # HTTP's errors begin there

            await _all(waiting, answer, server.at_once, tally, console)
    return tally


@dataclass(frozen=True, slots=True)
class Captions:
    """What to ask about each picture of a folder, and where the answers go.

    With `sidecar` they go to a text file beside each picture, else to `captions.jsonl` in the folder. With
    `overwrite` those that are there already are replaced. Without a `model` it is the first that is served.
    """

    prompt: str
    model: str | None
    max_tokens: int
    sidecar: bool
    overwrite: bool


async def caption(folder: Path, task: Captions, server: Gateway, console: Console) -> Tally:
    """Caption each picture below `folder` that has no caption yet.

    What fails is printed on `console`, and asked again by the next run. Raises openai.APIError, and BadInput
    where captions of another prompt are there.
    """
    target = folder / "captions.jsonl"
    pictures = _pictures(folder)
    if not pictures:
        raise BadInput(f"{folder}: there are no pictures in this folder")
    waiting = list(pictures) if task.overwrite else _uncaptioned(pictures, folder, target, task)
    tally = Tally(before=len(pictures) - len(waiting))
    async with server.client() as client:
        chosen = task.model or (await client.models.list()).data[0].id
        if task.overwrite and not task.sidecar:
            target.unlink(missing_ok=True)

        async def describe(path: Path) -> bool:
            body = _question(chosen, task.prompt, task.max_tokens, await asyncio.to_thread(_data_url, path))
            status, answer = await _posted(client, "/chat/completions", body)
            content = orjson.loads(answer)
            name = str(path.relative_to(folder))
            if "choices" not in content:
                console.print(
                    f"{name}: {status} {content['error']['message']}", markup=False, highlight=False
                )
                return False
            text = content["choices"][0]["message"]["content"]
            if task.sidecar:
                _write(path.with_suffix(".txt"), text + "\n")
            else:
                with target.open("ab") as out:
                    line = {"file": name, "prompt": task.prompt, "caption": text}
                    _append(out, orjson.dumps(line) + b"\n")
            return True

        await _all(waiting, describe, server.at_once, tally, console)
    return tally


def _uncaptioned(pictures: list[Path], folder: Path, target: Path, task: Captions) -> list[Path]:
    """Return the pictures without a caption. Raises BadInput if the file has those of another prompt."""
    if task.sidecar:
        return [path for path in pictures if not path.with_suffix(".txt").exists()]
    finished = _finished(target, "file")
    others = [line for line in finished.values() if line.get("prompt") != task.prompt]
    if others:
        raise BadInput(
            f"{target}: {len(others)} captions there are answers to another --prompt, "
            f"{others[0].get('prompt')!r}; ask the same, or replace them with --overwrite"
        )
    return [path for path in pictures if str(path.relative_to(folder)) not in finished]


async def _all(
    items: Iterable[_T], work: Callable[[_T], Awaitable[bool]], at_once: int, tally: Tally, console: Console
) -> None:
    """Do `work` for every item, `at_once` at a time, and show how far that is."""
    waiting = list(items)
    with _shown(len(waiting), tally, console) as show:
        queue = iter(waiting)

        async def some() -> None:
            for item in queue:  # shared: each item is taken once
                if await work(item):
                    tally.done += 1
                else:
                    tally.failed += 1
                show()

        stopped: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(at_once, len(waiting))):
                    group.create_task(some())
        except* (OSError, APIError) as failed:
            stopped = failed.exceptions[0]
        if stopped is not None:  # Python 3.11.2 puts what is raised inside `except*` into another group.
            raise stopped from None


@contextmanager
def _shown(waiting: int, tally: Tally, console: Console) -> Iterator[Callable[[], None]]:
    """Yield what shows how far the tally is: a bar on a terminal, elsewhere a line every TICK seconds."""
    if not console.is_terminal:
        yield _lines_shown(waiting, tally, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("answered", total=waiting + tally.before, completed=tally.before)

        def update() -> None:
            failed = f" ({tally.failed} failed)" if tally.failed else ""
            completed = tally.before + tally.done + tally.failed
            progress.update(bar, completed=completed, description=f"answered{failed}")

        yield update


def _lines_shown(waiting: int, tally: Tally, console: Console) -> Callable[[], None]:
    began = said = time.monotonic()

    def say() -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < TICK:
            return
        said, done = now, tally.done + tally.failed
        left = (waiting - done) * (now - began) / done
        failed = f" ({tally.failed} failed)" if tally.failed else ""
        total = waiting + tally.before
        console.print(
            f"answered{failed} {tally.before + done} of {total}, {left:.0f} s left", highlight=False
        )

    return say


async def _posted(client: AsyncOpenAI, path: str, body: Any) -> tuple[int, bytes]:
    """Return the status and the JSON that the gateway answers `body` with."""
    try:
        return 200, orjson.dumps(await client.post(path, body=body, cast_to=object))
    except APIStatusError as error:
        return error.status_code, _as_json(error)


def _as_json(error: APIStatusError) -> bytes:
    """Return what was answered as an error object, also where a proxy before the gateway wrote it."""
    content = error.response.content
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(content)
        if isinstance(found, dict) and isinstance(found.get("error"), dict):
            return content
    said = content[:ERROR_BYTES].decode(errors="replace").strip() or error.response.reason_phrase
    return orjson.dumps({"error": {"message": said, "type": None, "param": None, "code": None}})


def _pictures(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES and path.is_file()]


def _url(line: InputLine) -> str:
    """Return a line's URL as the client wants it: after the `/v1` that its base URL ends with."""
    return line.url.removeprefix("/v1")


def _lines(source: Path) -> Iterator[InputLine]:
    names: set[str] = set()
    with source.open("rb") as file:
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


def _finished(target: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the lines of `target` by their field `name`; a last line that is cut short is removed."""
    if not target.exists():
        return {}
    content = target.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with target.open("r+b") as file:
            file.truncate(len(whole))
    try:
        found = [orjson.loads(line) for line in whole.splitlines() if line.strip()]
        return {line[name]: line for line in found}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise BadInput(f"{target}: it exists already and is not the output of this command") from None


def _append(out: BinaryIO, line: bytes) -> None:
    out.write(line)
    out.flush()


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".txt.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _data_url(path: Path) -> str:
    media_type = mimetypes.guess_type(path.name)[0] or "image/jpeg"
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _question(model: str, prompt: str, max_tokens: int, url: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    messages = [{"role": "user", "content": parts}]
    return {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
