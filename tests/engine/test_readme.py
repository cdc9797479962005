"""The README's blocks, run word for word in a fresh folder but for the address; they print what it says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.debian import require
from tests.servers import Gateway
from tests.snippets import python, shell

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with what a reader has after set-up: the docs, and `.venv`."""
    shutil.copytree(ROOT / "docs/images", tmp_path / "docs/images")
    shutil.copy(ROOT / "docs/shapes.png", tmp_path / "docs")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60, check=False)


def test_the_python_snippets_print_what_their_comments_say(gateway: Gateway, checkout: Path) -> None:
    snippets = python(README)
    assert len(snippets) == 3
    program = "\n".join(snippets)
    assert program.count(ADDRESS) == 1
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", program, re.MULTILINE)
    assert promised == ["A red circle and a blue square.", "Red.", "The first."]
    done = run(checkout, ".venv/bin/python", "-c", program.replace(ADDRESS, gateway.url))
    # The streamed answer does not end with a newline.
    assert done.stdout == "A red circle and a blue square.\nRed.The first.\n"
    # The server that the snippet starts tells what it was asked for, and nothing else is said.
    assert sorted(re.findall(r'"GET (\S+) HTTP/1\.1" 200', done.stderr)) == ["/circle.png", "/star.png"]
    assert len(done.stderr.splitlines()) == 2


def test_the_curl_command_is_answered(gateway: Gateway, checkout: Path) -> None:
    require("curl")
    command = shell(README, "curl ")
    assert command.count(ADDRESS) == 1
    done = run(checkout, "sh", "-ec", command.replace(ADDRESS, gateway.url))
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "A red circle and a blue square."


def test_the_commands_ask_and_caption(gateway: Gateway, checkout: Path) -> None:
    ask, caption = shell(README, ".venv/bin/llava-gateway ask").splitlines()
    done = run(checkout, "sh", "-ec", f"{ask} --base-url {gateway.api}")
    assert (done.returncode, done.stdout) == (0, "A red circle and a blue square.\n")
    command, explained = caption.split("  # ")
    done = run(checkout, "sh", "-ec", f"{command} --base-url {gateway.api}")
    assert done.returncode == 0, done.stderr
    assert explained.endswith("into docs/images/captions.jsonl")
    lines = (checkout / "docs/images/captions.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["file_name"] for line in lines) == ["circle.png", "star.png"]


def test_ask_says_where_no_gateway_answers(checkout: Path) -> None:
    command, _ = shell(README, ".venv/bin/llava-gateway ask").splitlines()
    done = run(checkout, "sh", "-ec", f"{command} --base-url http://127.0.0.1:9/v1")
    assert done.returncode == 3
    assert done.stderr == "error: no gateway answers at http://127.0.0.1:9/v1; `make serve` starts one\n"
