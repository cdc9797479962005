"""docs/first-hour.md: its commands do what it says."""

import asyncio
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.access import keys_file
from gateway.cli import app
from gateway.settings import PREFIX, Settings
from gateway.storage.database import NAME
from gateway.storage.migrations import MIGRATIONS
from tests.api.asking import ask, sdk, send
from tests.scripted_engine import ScriptedEngine
from tests.servers import PROMPTLY, scripted_gateway
from tests.snippets import blocks, shell

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/first-hour.md").read_text()
UNIT = ROOT / "deploy/llava-gateway.service"


def run(folder: Path, beginning: str) -> str:
    """Run a block of the page, with its folders moved into `folder`, and return what it prints."""
    block = re.sub(r"(?=/(?:etc|var)/)", str(folder), shell(PAGE, beginning))
    block = re.sub(r"^(?:chown|chmod) .*\n", "", block, flags=re.MULTILINE)  # The service's user is not here.
    block = block.replace(".venv/", f"{sys.prefix}/")
    if beginning.startswith(".venv/bin/llava-gateway "):  # In this process: a new one imports for a second.
        (line,) = block.splitlines()
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
        return done.output
    command = ["sh", "-ec", block]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def of(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    for folder in ("etc/llava-gateway", "var/lib/llava-gateway", "var/backups"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def key_of(printed: str) -> str:
    (key,) = re.findall(r"\bsk-[\w-]+|\blg-[\w-]+", printed)
    return str(key)


async def test_a_backup_of_a_live_state_is_restored_with_its_keys(machine: Path) -> None:
    key = key_of(run(machine, ".venv/bin/llava-gateway keys add alice --file"))
    state, keys = machine / "var/lib/llava-gateway", machine / "etc/llava-gateway/keys.toml"
    settings = {"state_dir": state, "keys_file": keys}
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway, sdk(gateway, api_key=key) as client:
        kept = await client.files.create(file=("kept.txt", b"kept"), purpose="vision")
        response = await client.responses.create(model="llava-demo", input="What is it?")
        storing = [
            asyncio.create_task(client.files.create(file=("x", bytes(2**20)), purpose="vision"))
            for _ in range(8)
        ]
        await asyncio.to_thread(run, machine, ".venv/bin/python -c")
        await asyncio.gather(*storing)
        later = await client.files.create(file=("later.txt", b"later"), purpose="vision")
    keys.unlink()
    run(machine, "rm --force")
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway, sdk(gateway, api_key=key) as client:
        assert (await client.files.content(kept.id)).content == b"kept"
        assert await client.responses.retrieve(response.id) == response
        more = await client.responses.create(
            model="llava-demo", input="And now?", previous_response_id=response.id
        )
        assert more.status == "completed"
        assert later.id not in {file.id async for file in client.files.list()}
    with sqlite3.connect(state / NAME) as restored:
        assert restored.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    restored.close()


async def test_a_state_of_a_newer_version_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path) as gateway, sdk(gateway) as client:
        await client.files.create(file=("kept.txt", b"kept"), purpose="vision")
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        before = list(connection.iterdump())
    connection.close()
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path) as gateway:
        answer = await send(gateway, "GET", "/v1/files")
        assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
        assert f"\n{answer.error['message']}\n" in PAGE
        assert (await ask(gateway)).status == 200
    with sqlite3.connect(tmp_path / NAME) as connection:
        assert list(connection.iterdump()) == before
    connection.close()


async def test_a_key_is_replaced_without_a_gap_and_keeps_what_it_stored(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_file, "LOOK_EVERY", 0.05)
    old = key_of(run(machine, ".venv/bin/llava-gateway keys add alice --file"))
    settings = {"state_dir": machine, "keys_file": machine / "etc/llava-gateway/keys.toml"}
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway:
        async with sdk(gateway, api_key=old) as client:
            stored = await client.files.create(file=("kept.txt", b"kept"), purpose="vision")
        new = key_of(run(machine, ".venv/bin/llava-gateway keys add alice --replace"))
        async with asyncio.timeout(PROMPTLY):
            while (await ask(gateway, authorization=f"Bearer {new}")).status == 401:  # noqa: ASYNC110  # it is asked over HTTP
                await asyncio.sleep(0.05)
        for key in (old, new):
            async with sdk(gateway, api_key=key) as client:
                assert (await client.files.retrieve(stored.id)).filename == "kept.txt"


def test_the_plan_is_what_the_command_prints() -> None:
    command = re.search(r"`\.venv/bin/llava-gateway (plan [^`]*)` prints", PAGE)
    assert command is not None
    arguments = [sys.executable, "-m", "gateway", *command[1].split()]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ("text", done.stdout) in blocks(PAGE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit_and_finds_it_well_enclosed(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/llava-gateway/.venv", sys.prefix))
    for command in (["verify", "--man=no"], ["security", "--offline=yes", "--threshold=25"]):
        done = subprocess.run(
            ["systemd-analyze", *command, unit], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""


def test_the_units_settings_exist_and_it_waits_for_running_requests() -> None:
    unit = UNIT.read_text()
    environment = [line for _, code in blocks(PAGE) for line in code.splitlines() if line.startswith(PREFIX)]
    given = [pair for line in of(unit, "Environment") for pair in line.split() if pair.startswith(PREFIX)]
    settings = dict(pair.removeprefix(PREFIX).lower().split("=") for pair in [*given, *environment])
    checked = Settings.model_validate(settings)
    (wait,) = of(unit, "TimeoutStopSec")
    assert int(wait) > checked.drain_delay + checked.shutdown_timeout
    assert of(unit, "StateDirectory") == [Path(settings["state_dir"]).name]
    assert of(unit, "RestartPreventExitStatus") == ["2"]


def test_what_to_watch_is_on_the_dashboard() -> None:
    board = json.loads((ROOT / "deploy/grafana/dashboards/llava-gateway.json").read_text())
    named = re.findall(r"\*([A-Z][^*]+)\*", PAGE.partition("## Watch it")[2])
    assert len(named) == 7
    assert set(named) <= {panel["title"] for panel in board["panels"]}
