"""What `make` promises."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.debian import require

ROOT = Path(__file__).parents[2]

GATEWAY = """#!/usr/bin/env python3
import os, signal, sys, time
def leave(*_):
    os.write(1, b"left\\n")
    sys.exit()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, leave)
# Not `print`: a signal that comes while it still flushes may not print, "reentrant call".
os.write(1, " ".join(sys.argv[1:]).encode() + b"\\n")
time.sleep(60)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout whose set-up has nothing to do and whose gateway waits for a signal."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "engine_config").mkdir()
    (tmp_path / "engine_config/install.py").touch()
    gateway = tmp_path / ".venv/bin/llava-gateway"
    gateway.parent.mkdir(parents=True)
    gateway.write_text(GATEWAY)
    gateway.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)], ids=["Ctrl-C", "SIGTERM"]
)
def test_serve_ends_with_the_gateway_and_without_noise(
    checkout: Path, send: Callable[[int, int], None], number: signal.Signals
) -> None:
    for _ in range(3):
        said, code = _interrupted(checkout, send, number)
        if b"No child processes" not in said:
            break  # Once in some hundred times GNU make 4.3 waits for what its signal handler has reaped.
    assert (said, code) == (b"left\n", -number)


def _interrupted(
    checkout: Path, send: Callable[[int, int], None], number: signal.Signals
) -> tuple[bytes, int]:
    """Return what `make serve` prints from the signal on, and its exit code."""
    command = [require("make"), "serve", "PORT=81", "PROFILE=demo"]
    made = subprocess.Popen(
        command, cwd=checkout, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert made.stdout is not None
    assert made.stdout.readline() == b"serve --port 81 --profile demo\n"
    send(made.pid, number)
    said, _ = made.communicate(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.killpg(made.pid, 0)
    return said, made.returncode


def test_what_make_starts_sees_no_modules_from_elsewhere(checkout: Path) -> None:
    for started in ("engine_config/install.py", ".venv/bin/llava-gateway"):
        (checkout / started).write_text("#!/usr/bin/env python3\nimport os; print(os.getenv('PYTHONPATH'))\n")
    command = [require("make"), "serve"]
    environment = os.environ | {"PYTHONPATH": "/nowhere"}
    said = subprocess.check_output(command, cwd=checkout, env=environment, text=True)
    assert said == "None\nNone\n"


def test_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    listed = subprocess.run([require("make")], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == phony[1].split()
