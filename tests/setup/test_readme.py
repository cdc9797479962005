"""The README's ways to set it up, word for word."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.debian import require
from tests.servers import free_port
from tests.shapes import data_url
from tests.snippets import shell

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
READY_WITHIN = 900.0  # seconds, to fetch and unpack 3.5 GB too


def repository(folder: Path, *names: str) -> Path:
    """Make a git repository of copies of `names`."""
    folder.mkdir()
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    git = [require("git"), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "All"]):
        subprocess.run([*git, *arguments], cwd=folder, check=True, timeout=60)
    return folder


def test_the_first_block_clones_and_serves_in_the_clone(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shown = tmp_path / "bin/make"  # Set-up takes minutes: what make would run is printed.
    shown.write_text(f'#!/bin/sh\nexec {require("make")} --dry-run "$@"\n')
    shown.chmod(0o755)
    repository(tmp_path / "REPOSITORY", "Makefile", "README.md")  # A path will do as its address.
    done = subprocess.run(
        ["sh", "-ec", shell(README, "git clone ")],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{shown.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "exec .venv/bin/llava-gateway serve --port 8000"


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_the_wheel_in_an_empty_environment_serves(tmp_path: Path) -> None:
    checkout = repository(
        *(tmp_path / "clone", "gateway", "engine_config"),
        *("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"),
    )
    *install, serve = shell(README, "python3 -m venv ").splitlines()
    assert serve == ".venv/bin/llava-gateway serve"
    python = f"{Path(sys.base_prefix, 'bin')}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PATH": python,
        "PIP_RETRIES": "0",  # or an index that cannot be reached costs minutes, package by package
        "GATEWAY_PORT": str(free_port()),
        "GATEWAY_STATE_DIR": str(tmp_path / "state"),
        "GATEWAY_PROFILE": "demo",
    }
    subprocess.run(["sh", "-ec", "\n".join(install)], cwd=checkout, env=environment, check=True)
    shutil.rmtree(checkout / "gateway")  # What is served comes from the wheel.
    shutil.rmtree(checkout / "engine_config")
    with subprocess.Popen(serve.split(), cwd=checkout, env=environment) as process:
        try:
            address = f"http://127.0.0.1:{environment['GATEWAY_PORT']}"
            assert answer(address, process) == "A red circle."
        finally:
            process.terminate()
    assert process.returncode == 0


def answer(address: str, process: subprocess.Popen[bytes]) -> str:
    """Return what the gateway says about a red circle, once it is ready."""
    deadline = time.monotonic() + READY_WITHIN
    with httpx2.Client(base_url=address, trust_env=False, timeout=60) as client:
        while True:
            assert process.poll() is None, "the gateway ended"
            assert time.monotonic() < deadline
            try:
                if client.get("/health/ready").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            time.sleep(0.5)
        content = [
            {"type": "image_url", "image_url": {"url": data_url("circle", "red")}},
            {"type": "text", "text": "What is in the image?"},
        ]
        body = {"model": "llava-demo", "messages": [{"role": "user", "content": content}], "temperature": 0}
        answered = client.post("/v1/chat/completions", json=body).json()
        return str(answered["choices"][0]["message"]["content"])
