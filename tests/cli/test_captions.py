"""`llava-gateway caption`: every image is captioned once, in each format, also after a kill or Ctrl-C."""

import asyncio
import csv
import fcntl
import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from gateway.cli import client
from tests.api.asking import MODEL
from tests.cli.commands import run
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway, until
from tests.shapes import encoded

NAMES = ("a.png", "b.PNG", "below/c.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three images, one that is broken, and files that are no images."""
    for name in ("a.png", "b.PNG", "below/c.png", ".hidden/d.png", "._a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded("circle", "red"))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.md").write_text("no picture either")
    return tmp_path


def rows(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def captions(path: Path) -> dict[str, str]:
    """Return the captions of a table by the images' names, which must each be there once."""
    if path.suffix == ".csv":
        found = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    else:
        found = rows(path)
    by_name = {row["file_name"]: row["text"] for row in found}
    assert len(by_name) == len(found)
    return by_name


async def test_captions_go_to_one_file_and_only_what_failed_is_asked_again(
    gateway: Gateway, engine: ScriptedEngine, folder: Path
) -> None:
    code, errors = await run(gateway, "caption", folder, "--prompt", "What is it?")
    assert (code, errors.splitlines()) == (
        1,
        [
            "broken.jpg: 400 this is text; send a JPEG or PNG",
            f"{folder}: 3 answered, 1 failed, 0 were there before",
        ],
    )
    assert captions(folder / "captions.jsonl") == dict.fromkeys(NAMES, "A red circle.")
    assert all(len(job.pictures) == 1 for job in engine.jobs)

    (folder / "broken.jpg").write_bytes(encoded("star", "blue", form="jpeg"))
    code, errors = await run(gateway, "caption", folder, "--prompt", "What is it?")
    assert (code, errors) == (0, f"{folder}: 1 answered, 0 failed, 3 were there before\n")
    assert len(engine.jobs) == 4


async def test_overwrite_replaces_captions_of_another_prompt_at_its_end(
    gateway: Gateway, engine: ScriptedEngine, folder: Path
) -> None:
    (folder / "broken.jpg").unlink()
    await run(gateway, "caption", folder, "--prompt", "What is it?")
    other = ("caption", folder, "--prompt", "Which colour?")
    code, errors = await run(gateway, *other)
    assert code == 2
    assert errors == (
        f"error: {folder / 'captions.jsonl'}: 3 captions there are answers to another --prompt, "
        "'What is it?'; ask the same, or replace them with --overwrite\n"
    )
    engine.words = (" Red.",)
    try:
        code, _ = await run(gateway, *other, "--overwrite")
    finally:
        engine.words = ScriptedEngine.words
    assert (code, captions(folder / "captions.jsonl")) == (0, dict.fromkeys(NAMES, "Red."))
    assert {row["prompt"] for row in rows(folder / "captions.jsonl")} == {"Which colour?"}
    assert not (folder / ".captions.part.jsonl").exists()


async def test_every_format_gets_the_caption_with_prefix_and_suffix(
    gateway: Gateway, engine: ScriptedEngine, folder: Path
) -> None:
    (folder / "a.txt").write_text("Mine.\n")
    (folder / "prompt.txt").write_text("Name the shape.\n")
    formats = ("--format", "txt", "--format", "csv", "--format", "jsonl")
    words = ("--prompt-file", folder / "prompt.txt", "--prefix", 'ohwx, "', "--suffix", '"')
    code, _ = await run(gateway, "caption", folder, *formats, *words)
    assert code == 1
    expected = {"a.png": "Mine."} | dict.fromkeys(NAMES[1:], 'ohwx, "A red circle."')
    assert captions(folder / "captions.jsonl") == captions(folder / "captions.csv") == expected
    assert (folder / "below/c.txt").read_text() == 'ohwx, "A red circle."\n'
    assert {row["prompt"] for row in rows(folder / "captions.jsonl")} == {"Name the shape."}
    assert len(engine.jobs) == 2
    assert not (folder / "broken.txt").exists()


async def test_table_without_its_last_newline_is_continued(gateway: Gateway, folder: Path) -> None:
    table = folder / "captions.jsonl"
    table.write_text('{"file_name":"a.png","text":"Mine.","prompt":"Describe the image."}')
    await run(gateway, "caption", folder)
    assert captions(table) == {"a.png": "Mine."} | dict.fromkeys(NAMES[1:], "A red circle.")


async def test_txt_overwrites_only_when_asked_to(gateway: Gateway, folder: Path) -> None:
    (folder / "a.txt").write_text("Mine.\n")
    await run(gateway, "caption", folder, "--format", "txt")
    assert (folder / "a.txt").read_text() == "Mine.\n"
    await run(gateway, "caption", folder, "--format", "txt", "--overwrite")
    assert (folder / "a.txt").read_text() == "A red circle.\n"


async def test_images_that_share_a_text_file_do_not_overwrite_each_other(
    gateway: Gateway, tmp_path: Path
) -> None:
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).write_bytes(encoded("circle", "red"))
    code, errors = await run(gateway, "caption", tmp_path, "--format", "txt")
    assert code == 1
    assert errors.splitlines() == [
        "a.png: a.txt is the caption of a.jpg, too; rename one of the two images",
        f"{tmp_path}: 1 answered, 1 failed, 0 were there before",
    ]


async def test_folders_below_are_left_out_when_asked_to(gateway: Gateway, folder: Path) -> None:
    target = folder / "metadata.jsonl"
    await run(gateway, "caption", folder, "--no-recursive", "--output", target)
    assert sorted(captions(target)) == ["a.png", "b.PNG"]


async def test_caption_is_one_line_and_an_empty_one_is_a_failure(
    gateway: Gateway, engine: ScriptedEngine, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encoded("circle", "red"))
    engine.words = (" ",)
    try:
        code, errors = await run(gateway, "caption", tmp_path, "--format", "txt")
        assert (code, errors.splitlines()[0]) == (1, "a.png: the answer is empty")
        engine.words = (" One.\n\n", "Two.")
        await run(gateway, "caption", tmp_path, "--format", "txt")
    finally:
        engine.words = ScriptedEngine.words
    assert (tmp_path / "a.txt").read_text() == "One. Two.\n"


async def test_contact_sheet_shows_every_image_with_its_caption_or_problem(
    gateway: Gateway, folder: Path
) -> None:
    (folder / "<i>50%#.png").write_bytes(encoded("circle", "red"))
    Image.new("RGB", (8, 8)).save(folder / "old.tif")
    sheet = folder / "below/sheet.html"
    await run(gateway, "caption", folder, "--contact-sheet", sheet)
    page = sheet.read_text()
    assert "<p>5 captions, 1 failed</p>" in page
    figures = re.findall(r"<figure.*</figure>", page)
    assert figures[0] == (
        '<figure class="failed"><img loading="lazy" alt="" src="../broken.jpg">'
        "<p>400 this is text; send a JPEG or PNG</p><small>broken.jpg</small></figure>"
    )
    assert figures[1] == (
        '<figure><img loading="lazy" alt="" src="../%3Ci%3E50%25%23.png">'
        "<p>A red circle.</p><small>&lt;i&gt;50%#.png</small></figure>"
    )
    assert 'src="data:image/jpeg;base64,' in figures[-1]  # Browsers show no TIFF.


async def test_a_model_that_is_not_served_ends_the_run(gateway: Gateway, folder: Path) -> None:
    code, errors = await run(gateway, "caption", folder, "--model", "gpt-9")
    assert code == 5
    assert errors.count("\n") == 1
    assert "gpt-9" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", "a", "--prompt-file", "prompt"), "--prompt-file: it cannot be given with --prompt"),
        (("--prompt-file", "empty"), "--prompt-file: empty: it is empty"),
        (
            ("--format", "txt", "--output", "x.csv"),
            "--output: it is for one --format of jsonl or csv; got 0",
        ),
        (("--output", "prompt"), "prompt: it exists already and is not the output of this command"),
        (
            ("--format", "csv", "--output", "prompt"),
            "prompt: it exists already and is not the output of this command",
        ),
        (("--contact-sheet", "no/sheet.html"), "--contact-sheet: there is no folder no"),
        ((), ".: there are no images in this folder"),
    ],
)
async def test_mistaken_options_are_refused(
    gateway: Gateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompt").write_text("Name it.")
    (tmp_path / "empty").write_text(" \n")
    if arguments:
        (tmp_path / "a.png").write_bytes(encoded("circle", "red"))
    code, errors = await run(gateway, "caption", ".", *arguments)
    assert (code, errors) == (2, f"error: {message}\n")
    assert (tmp_path / "prompt").read_text() == "Name it."


async def test_a_server_that_drops_connections_ends_the_command_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def dropped(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    monkeypatch.setattr(client, "RETRIES", 0)
    site = web.Application()
    site.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", dropped)])
    async with TestServer(site) as server:
        address = str(server.make_url("")).rstrip("/")
        code, errors = await run(Gateway(address), "caption", folder)
    assert (code, errors) == (3, f"error: no gateway answers at {address}/v1; `make serve` starts one\n")


async def test_what_was_done_is_listed_if_the_gateway_goes_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    statuses = iter([400])

    async def refused_once(request: web.Request) -> web.Response:
        if status := next(statuses, None):
            return web.json_response(
                {"error": {"message": "image: too large", "param": "image"}}, status=status
            )
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    monkeypatch.setattr(client, "RETRIES", 0)
    site = web.Application(client_max_size=2**20)
    site.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", refused_once)])
    async with TestServer(site) as server:
        address = str(server.make_url("")).rstrip("/")
        code, errors = await run(Gateway(address), "caption", folder, "--at-once", "1")
    assert (code, errors.splitlines()) == (
        3,
        [
            f"error: no gateway answers at {address}/v1; `make serve` starts one",
            "a.png: 400 too large",
            f"{folder}: 0 answered, 1 failed, 0 were there before",
        ],
    )


async def test_address_without_a_gateway_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded("circle", "red"))
    code, errors = await run(Gateway("http://127.0.0.1:9"), "caption", tmp_path, "--at-once", "1")
    assert (code, errors) == (
        3,
        "error: no gateway answers at http://127.0.0.1:9/v1; `make serve` starts one\n",
    )


async def start(gateway: Gateway, folder: Path, *options: str) -> asyncio.subprocess.Process:
    """Start `caption` in a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "caption", str(folder), "--base-url", gateway.api, *options),
        stderr=asyncio.subprocess.PIPE,
    )


def tiny_images(folder: Path, count: int) -> list[str]:
    """Write images of one pixel, each of another colour, and return their names."""
    names = []
    for number in range(count):
        name = f"{number % 10}/{number}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (1, 1), (number % 256, number // 256, 0)).save(folder / name)
        names.append(name)
    return names


def texts(folder: Path) -> dict[str, str]:
    """Return the contents of all files below the folder that are neither images nor tables."""
    found = [path for path in folder.glob("*/*") if path.suffix != ".png"]  # hidden ones, too
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


@pytest.mark.slow
async def test_two_thousand_images_are_captioned_once_through_a_kill(tmp_path: Path) -> None:
    names = tiny_images(tmp_path, 2000)
    engine = ScriptedEngine()
    formats = ("--format", "txt", "--format", "csv", "--format", "jsonl")
    async with scripted_gateway(engine) as gateway:
        process = await start(gateway, tmp_path, *formats)
        await until(lambda: len(list(tmp_path.glob("*/*.txt"))) > 500, 60)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        before = {name for name in texts(tmp_path) if name.endswith(".txt")}
        with (tmp_path / "captions.csv").open("ab") as file:
            file.write(b'7/7.png,"cut\n')  # as a kill in the middle of a line leaves it
        with (tmp_path / "captions.jsonl").open("ab") as file:
            file.write(b'{"file_name":"7/7')
        code, errors = await run(gateway, "caption", tmp_path, *formats)
    assert errors.endswith(
        f"{tmp_path}: {2000 - len(before)} answered, 0 failed, {len(before)} were there before\n"
    )
    assert code == 0
    assert 2000 <= len(engine.jobs) <= 2016  # those of the requests that ran at the kill are asked again
    expected = dict.fromkeys(names, "A red circle.")
    assert captions(tmp_path / "captions.jsonl") == captions(tmp_path / "captions.csv") == expected
    assert texts(tmp_path) == {name.replace(".png", ".txt"): "A red circle.\n" for name in names}


async def test_ctrl_c_waits_for_what_runs_and_the_next_run_continues(tmp_path: Path) -> None:
    names = tiny_images(tmp_path, 40)
    engine = ScriptedEngine(pause=0.05)
    async with scripted_gateway(engine) as gateway:
        process = await start(gateway, tmp_path, "--at-once", "4", "--overwrite")
        await until(lambda: len(engine.jobs) > 8, 60)
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        asked = len(engine.jobs)
        assert process.returncode == 130
        lines = errors.decode().splitlines()
        assert [line for line in lines if not line.startswith("answered ")] == [  # On a busy machine.
            "stopping: waiting for the requests that run; press Ctrl-C again to leave at once",
            f"{tmp_path}: {asked} answered, 0 failed, 0 were there before",
            "stopped; run it again to continue",
        ]
        engine.hurried = True
        code, _ = await run(gateway, "caption", tmp_path, "--overwrite")
    assert (code, len(engine.jobs)) == (0, 40)
    assert captions(tmp_path / "captions.jsonl") == dict.fromkeys(names, "A red circle.")


async def test_a_second_run_in_the_same_folder_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    tiny_images(tmp_path, 1)
    file = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX)
    code, errors = await run(gateway, "caption", tmp_path)
    os.close(file)
    assert (code, errors) == (2, f"error: {tmp_path}: another `caption` is running there\n")
