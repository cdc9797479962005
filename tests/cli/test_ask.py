"""`llava-gateway ask`: images from files, URLs and standard input, and where the gateway is found."""

import asyncio
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from gateway.cli import app
from tests.cli.commands import invoke
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway
from tests.shapes import encoded

CIRCLE = encoded("circle", "red")


async def test_files_urls_and_standard_input_are_asked_about_in_order(
    gateway: Gateway, engine: ScriptedEngine, tmp_path: Path
) -> None:
    async def star(_: web.Request) -> web.Response:
        return web.Response(body=encoded("star", "blue"))

    (tmp_path / "a.png").write_bytes(CIRCLE)
    site = web.Application()
    site.add_routes([web.get("/star.png", star)])
    async with TestServer(site) as server:
        url = str(server.make_url("/star.png"))
        result = await invoke(gateway, "ask", tmp_path / "a.png", url, "-", "What is new?", given=CIRCLE)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "A red circle.\n", "")
    first, second, third = engine.jobs[0].pictures
    assert first.key == third.key != second.key
    assert "What is new?" in engine.model.vocabulary.decode(
        [token for token in engine.jobs[0].token_ids if token < 1000], special=False
    )


async def test_question_is_read_from_standard_input(gateway: Gateway, engine: ScriptedEngine) -> None:
    result = await invoke(gateway, "ask", "-", given=b"Who are you?\n")
    assert (result.exit_code, result.stdout) == (0, "A red circle.\n")
    assert engine.jobs[0].pictures == ()


async def test_json_is_the_answer_as_the_gateway_gave_it(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(CIRCLE)
    result = await invoke(gateway, "ask", tmp_path / "a.png", "What?", "--json", "--max-tokens", "2")
    answer = orjson.loads(result.stdout)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "A red"
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_answer_that_was_cut_off_says_so(gateway: Gateway) -> None:
    result = await invoke(gateway, "ask", "What?", "--max-tokens", "2")
    assert (result.exit_code, result.stdout) == (0, "A red\n")
    assert result.stderr == "the answer was cut off; --max-tokens is 2\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.png", "What?"], "no.png: No such file or directory"),
        (["What?", "a.png"], "a.png: the last argument must be the question; got a file"),
        (["-", "-"], "-: standard input can be one image or the question; got it twice"),
        (["-", "What?"], "standard input: it is empty; an image is read from it"),
    ],
)
async def test_mistaken_arguments_are_refused(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    (tmp_path / "a.png").write_bytes(CIRCLE)
    monkeypatch.chdir(tmp_path)
    result = await invoke(gateway, "ask", *words)
    assert (result.exit_code, result.stderr) == (2, f"error: {message}\n")


async def test_refused_image_exits_with_5(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    result = await invoke(gateway, "ask", tmp_path / "a.png", "What?")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "send a JPEG or PNG" in result.stderr


async def test_address_and_key_are_openais_variables() -> None:
    async with scripted_gateway(ScriptedEngine(), api_keys="ann:sk-right", metrics_access="key") as gateway:
        environment = {"OPENAI_BASE_URL": gateway.api + "/", "OPENAI_API_KEY": "sk-right"}
        for words in (["ask", "What?"], ["top", "--once", "--interval", "0.2"]):
            result = await asyncio.to_thread(CliRunner().invoke, app, words, env=environment)
            assert (result.exit_code, result.stderr) == (0, ""), result.stderr


@pytest.mark.parametrize("command", [["ask", "What?"], ["top", "--once"], ["caption", "."]])
def test_address_without_a_scheme_is_refused(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--base-url", "localhost:8000"])
    assert result.exit_code == 2
    assert "must start with http:// or https://; got 'localhost:8000'" in " ".join(
        result.stderr.replace("│", "").split()
    )
