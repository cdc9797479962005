"""`llava-gateway batch` against a running gateway: everything once, also after a stop."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.cli import client
from gateway.cli.common import uses_environment
from tests.api.asking import MODEL, QUESTION
from tests.cli.commands import invoke, run
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway, until
from tests.shapes import encoded


def line(name: str, url: str = "/v1/chat/completions", **body: Any) -> bytes:
    asked = {"model": MODEL, "messages": [QUESTION], **body}
    return orjson.dumps({"custom_id": name, "method": "POST", "url": url, "body": asked}) + b"\n"


def results(target: Path) -> list[dict[str, Any]]:
    return [orjson.loads(some) for some in target.read_bytes().splitlines()]


async def test_batch_is_answered_once_and_what_failed_is_told(
    gateway: Gateway, engine: ScriptedEngine, tmp_path: Path
) -> None:
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
    assert len(engine.jobs) == 20

    code, told = await run(gateway, "batch", source, target)
    assert (code, told.splitlines()[-1]) == (0, f"{target}: 0 answered, 0 failed, 21 were there before")
    assert len(engine.jobs) == 20


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


async def test_dashes_are_standard_input_and_output(gateway: Gateway) -> None:
    result = await invoke(gateway, "batch", "-", "-", given=line("a") + line("bad", temperature=9))
    assert result.exit_code == 1
    found = {row["custom_id"]: row["response"] for row in map(orjson.loads, result.stdout.splitlines())}
    assert found["a"]["body"]["choices"][0]["message"]["content"] == "A red circle."
    assert found["bad"]["status_code"] == 400
    assert result.stderr == "standard output: 1 answered, 1 failed, 0 were there before\n"
    wrong = await invoke(gateway, "batch", "-", "-", given=b"{not json\n")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: standard input, line 1: This line is not parseable")


async def test_file_without_a_newline_at_its_end_is_not_shortened(gateway: Gateway, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "notes.json"
    source.write_bytes(line("x"))
    for content in ("my notes", '{"my": "notes"}', '{"custom_id": "a"}\nmy notes'):
        target.write_text(content)
        code, _ = await run(gateway, "batch", source, target)
        assert (code, target.read_text()) == (2, content)


async def test_what_a_proxy_answers_is_written_as_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>Bad Gateway</html>\n")

    monkeypatch.setattr(client, "RETRIES", 0)
    site = web.Application()
    site.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", broken)])
    async with TestServer(site) as server:
        proxy = Gateway(str(server.make_url("")).rstrip("/"))
        source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_bytes(line("a"))
        code, _ = await run(proxy, "batch", source, target)
        (result,) = results(target)
        (tmp_path / "a.png").write_bytes(encoded("circle", "red"))
        captioned, told = await run(proxy, "caption", tmp_path)
    assert (code, captioned) == (1, 1)
    assert result["response"]["status_code"] == 502
    assert result["response"]["body"]["error"]["message"] == "<html>Bad Gateway</html>"
    assert "a.png: 502 <html>Bad Gateway</html>" in told.splitlines()
