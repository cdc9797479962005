"""`llava-gateway batch` and `caption` against a running gateway: everything once, also after a stop."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from gateway.cli import app, bulk
from gateway.cli.common import uses_environment
from tests.api.asking import MODEL, QUESTION
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway, until
from tests.shapes import encoded

ENGINE = ScriptedEngine()


@pytest.fixture(scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    async with scripted_gateway(ENGINE) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_jobs_yet() -> None:
    ENGINE.jobs.clear()


def line(name: str, url: str = "/v1/chat/completions", **body: Any) -> bytes:
    asked = {"model": MODEL, "messages": [QUESTION], **body}
    return orjson.dumps({"custom_id": name, "method": "POST", "url": url, "body": asked}) + b"\n"


async def run(gateway: Gateway, command: str, *arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Return the command's exit code and what it told on standard error."""
    given = [command, *map(str, arguments), "--base-url", gateway.api]
    result = await asyncio.to_thread(CliRunner().invoke, app, given, env=environment)
    return result.exit_code, result.stderr


def results(target: Path) -> list[dict[str, Any]]:
    return [orjson.loads(some) for some in target.read_bytes().splitlines()]


async def test_batch_is_answered_once_and_what_failed_is_told(gateway: Gateway, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"".join([*(line(f"{n}") for n in range(20)), line("bad", temperature=9)]))
    code, told = await run(gateway, "batch", source, target)
    assert (code, told.splitlines()[-1]) == (
        1,
        f"{target}: 20 answered, 1 failed, 0 were there before",
    )
    found = {result["custom_id"]: result["response"] for result in results(target)}
    assert sorted(found) == sorted(["bad", *(f"{n}" for n in range(20))])
    assert found["bad"]["status_code"] == 400
    assert found["bad"]["body"]["error"]["param"] == "temperature"
    assert found["7"]["body"]["choices"][0]["message"]["content"] == "A red circle."
    assert len(ENGINE.jobs) == 20

    code, told = await run(gateway, "batch", source, target)
    assert (code, told.splitlines()[-1]) == (0, f"{target}: 0 answered, 0 failed, 21 were there before")
    assert len(ENGINE.jobs) == 20


async def test_killed_batch_goes_on_where_it_was(tmp_path: Path) -> None:
    engine = ScriptedEngine(pause=0.02)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"".join(line(f"{n}") for n in range(60)))
    async with scripted_gateway(engine) as gateway:
        options = ("--base-url", gateway.api, "--at-once", "4")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "batch", source, target, *options)
        )
        await until(lambda: target.exists() and len(target.read_bytes().splitlines()) > 10, 30)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        with target.open("ab") as file:
            file.write(b'{"id": "cut sho')  # as a kill in the middle of a line leaves it
        before = len(results_before_cut(target))
        code, told = await run(gateway, "batch", source, target)
    assert code == 0
    assert f"{60 - before} answered, 0 failed, {before} were there before" in told
    assert sorted(int(result["custom_id"]) for result in results(target)) == list(range(60))


def results_before_cut(target: Path) -> list[bytes]:
    return target.read_bytes().splitlines()[:-1]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{not json\n", "line 1: This line is not parseable as valid JSON"),
        (line("x") + line("x"), "line 2: custom_id 'x' appears twice"),
        (line("x", url="/metrics"), "line 1: url: it must be the endpoint"),
    ],
)
async def test_bad_input_is_told_with_its_line(
    gateway: Gateway, tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    code, said = await run(gateway, "batch", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert code == 2
    assert told in said


async def test_file_that_is_not_ours_is_not_written_to(gateway: Gateway, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "notes.txt"
    source.write_bytes(line("x"))
    target.write_text("my notes\n")
    code, said = await run(gateway, "batch", source, target)
    assert (code, target.read_text()) == (2, "my notes\n")
    assert "is not the output of this command" in said


async def test_key_is_taken_from_the_environment(tmp_path: Path) -> None:
    async with scripted_gateway(ScriptedEngine(), api_keys="ann:sk-right") as gateway:
        (tmp_path / "in.jsonl").write_bytes(line("x"))
        arguments = (tmp_path / "in.jsonl", tmp_path / "out.jsonl")
        code, _ = await run(gateway, "batch", *arguments, OPENAI_API_KEY="sk-right")
        assert code == 0
        address = gateway.api
        assert await run(gateway, "batch", *arguments) == (
            4,
            f"error: the gateway at {address} asks for an API key; pass --api-key or set OPENAI_API_KEY\n",
        )
        code, told = await run(gateway, "batch", *arguments, OPENAI_API_KEY="sk-wrong")
        assert code == 4
        assert told.startswith(f"error: the gateway at {address} refused the API key: ")


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    gateway: Gateway, tmp_path: Path
) -> None:
    proxy = "http://127.0.0.1:9"  # where nobody listens
    (tmp_path / "in.jsonl").write_bytes(line("x"))
    (tmp_path / "a.png").write_bytes(encoded("circle", "red"))
    proxies = {"HTTP_PROXY": proxy, "http_proxy": proxy, "ALL_PROXY": proxy, "NO_PROXY": "", "no_proxy": ""}
    code, told = await run(gateway, "batch", tmp_path / "in.jsonl", tmp_path / "out.jsonl", **proxies)
    assert code == 0, told
    code, told = await run(gateway, "ask", tmp_path / "a.png", "What?", **proxies)
    assert code == 0, told
    assert uses_environment("http://gateway.example:8000/v1")
    assert not uses_environment("http://[::1]:8000/v1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    for name in ("a.png", "b.PNG", "below/c.png"):
        (tmp_path / name).write_bytes(encoded("circle", "red"))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.md").write_text("no picture either")
    return tmp_path


async def test_captions_go_to_one_file_and_only_what_failed_is_asked_again(
    gateway: Gateway, folder: Path
) -> None:
    code, told = await run(gateway, "caption", folder, "--prompt", "What is it?")
    assert code == 1
    assert "broken.jpg: 400 " in told
    assert f"{folder / 'captions.jsonl'}: 3 answered, 1 failed, 0 were there before" in told
    found = sorted((row["file"], row["caption"]) for row in results(folder / "captions.jsonl"))
    assert found == [(name, "A red circle.") for name in ("a.png", "b.PNG", "below/c.png")]
    assert all(len(job.pictures) == 1 for job in ENGINE.jobs)

    (folder / "broken.jpg").write_bytes(encoded("star", "blue", form="jpeg"))
    code, told = await run(gateway, "caption", folder, "--prompt", "What is it?")
    assert code == 0
    assert "1 answered, 0 failed, 3 were there before" in told
    assert len(ENGINE.jobs) == 4

    other = ("caption", folder, "--prompt", "Which colour?")
    code, told = await run(gateway, *other)
    assert code == 2
    assert told.splitlines()[-1] == (
        f"error: {folder / 'captions.jsonl'}: 4 captions there are answers to another --prompt, "
        "'What is it?'; ask the same, or replace them with --overwrite"
    )
    code, told = await run(gateway, *other, "--overwrite")
    assert (code, len(results(folder / "captions.jsonl")), len(ENGINE.jobs)) == (0, 4, 8)


async def test_captions_go_beside_the_pictures(gateway: Gateway, folder: Path) -> None:
    (folder / "a.txt").write_text("Mine.\n")
    code, _ = await run(gateway, "caption", folder, "--sidecar")
    assert code == 1
    assert (folder / "a.txt").read_text() == "Mine.\n"
    assert (folder / "below" / "c.txt").read_text() == "A red circle.\n"
    assert not (folder / "captions.jsonl").exists()
    assert not (folder / "broken.txt").exists()
    code, told = await run(gateway, "caption", folder, "--sidecar", "--overwrite")
    assert "3 answered, 1 failed, 0 were there before" in told
    assert (folder / "a.txt").read_text() == "A red circle.\n"


async def test_folder_without_pictures_is_told(gateway: Gateway, tmp_path: Path) -> None:
    code, told = await run(gateway, "caption", tmp_path)
    assert code == 2
    assert "there are no pictures in this folder" in told


async def test_what_a_proxy_answers_is_told_as_an_error(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>Bad Gateway</html>\n")

    monkeypatch.setattr(bulk, "RETRIES", 0)
    site = web.Application()
    site.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", broken)])
    async with TestServer(site) as server:
        proxy = Gateway(str(server.make_url("")).rstrip("/"))
        source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_bytes(line("a"))
        code, _ = await run(proxy, "batch", source, target)
        (result,) = results(target)
        captioned, told = await run(proxy, "caption", folder)
    assert (code, captioned) == (1, 1)
    assert result["response"]["status_code"] == 502
    assert result["response"]["body"]["error"]["message"] == "<html>Bad Gateway</html>"
    assert "a.png: 502 <html>Bad Gateway</html>" in told.splitlines()


async def test_a_server_that_drops_connections_ends_the_command_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def dropped(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    monkeypatch.setattr(bulk, "RETRIES", 0)
    site = web.Application()
    site.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", dropped)])
    async with TestServer(site) as server:
        address = str(server.make_url("")).rstrip("/")
        code, told = await run(Gateway(address), "caption", folder)
    assert (code, told) == (3, f"error: no gateway answers at {address}/v1; `make serve` starts one\n")


async def test_where_no_gateway_answers_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(line("x"))
    nowhere = Gateway("http://127.0.0.1:9")
    code, told = await run(nowhere, "caption", tmp_path)
    assert code == 2
    assert "there are no pictures" in told
    (tmp_path / "x.png").write_bytes(encoded("circle", "red"))
    code, told = await run(nowhere, "caption", tmp_path, "--at-once", "1")
    assert (code, told.splitlines()[-1]) == (
        3,
        "error: no gateway answers at http://127.0.0.1:9/v1; `make serve` starts one",
    )
