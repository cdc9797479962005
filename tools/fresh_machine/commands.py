"""What is tried on a new machine: the README's two commands, and a wheel for people without make."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.snippets import shell
from tools.fresh_machine import image
from tools.fresh_machine.first_requests import Timing, sweep
from tools.fresh_machine.machine import ROOT, Machine, User

REPOSITORY = Path(__file__).parents[2]
SERVE = ".venv/bin/llava-gateway serve"
SET_UP = 3600.0  # seconds; a slow machine may need an hour to fetch and unpack
STOP = 60.0  # seconds from Ctrl-C to the end

# What the README has for people without make, in a clone of their own. Retries would cost minutes if an
# index cannot be reached.
WHEEL = f"""
set -e
cd "$(mktemp -d)"
git clone -q {{checkout}} .
export PIP_RETRIES=0 GATEWAY_PROFILE=demo GATEWAY_PORT={{port}}
{shell((REPOSITORY / "README.md").read_text(), "python3 -m venv ").replace(SERVE, f"exec {SERVE}")}
"""


@dataclass(slots=True)
class Outcome:
    """What became of a command: "" or what went wrong, and what was measured."""

    machine: str
    user: str
    command: str
    problem: str = ""
    seconds: float = 0.0
    timings: list[Timing] = field(default_factory=list)
    summary: str = ""  # pytest's last lines


def serve(machine: Machine, user: User, checkout: str, log: Path) -> Outcome:
    """Run `make serve` until it is ready, send the first requests, and press Ctrl-C."""
    command = f"cd {checkout} && exec make serve PORT={{port}}"
    outcome = _served(machine, user, "make serve", command, log)
    if not outcome.problem and (strays := machine.strays(checkout)):
        outcome.problem = f"leaves in the tree: {strays}"
    return outcome


def wheel(machine: Machine, user: User, checkout: str, log: Path) -> Outcome:
    """Install a wheel of the checkout into an empty environment, and serve."""
    return _served(
        machine, user, "pip install, llava-gateway serve", WHEEL.replace("{checkout}", checkout), log
    )


def container(machine: Machine, checkout: str, log: Path) -> Outcome:
    """Run what deploy/Dockerfile builds its CPU image with, and start it as its user."""
    dockerfile = REPOSITORY / "deploy/Dockerfile"
    machine.run(ROOT, image.build_script(dockerfile, "cpu", checkout), log)
    user = User("the image's user", image.user(dockerfile, "cpu"), "/cache")
    settings = {"GATEWAY_OPEN_ACCESS": "1", "GATEWAY_PORT": "{port}", "GATEWAY_PROFILE": "demo"}
    script = image.start_script(dockerfile, "cpu", settings).replace("'{port}'", "{port}")
    return _served(machine, user, "the steps of deploy/Dockerfile", script, log)


def test(machine: Machine, user: User, checkout: str, log: Path) -> Outcome:
    """Run `make test`."""
    outcome = Outcome(machine.suite, user.name, "make test")
    began = time.monotonic()
    try:
        machine.run(user, f"cd {checkout} && make test", log)
    except subprocess.CalledProcessError as error:
        outcome.problem = f"exit code {error.returncode}"
    outcome.seconds = time.monotonic() - began
    lines = [line for line in log.read_text(errors="replace").splitlines() if _is_summary(line)]
    outcome.summary = "; ".join(line.strip("= ") for line in lines)
    return outcome


def _is_summary(line: str) -> bool:
    return " passed" in line and " in " in line


def _served(machine: Machine, user: User, name: str, command: str, log: Path) -> Outcome:
    outcome = Outcome(machine.suite, user.name, name)
    port = free_port()
    began = time.monotonic()
    process = machine.start(user, command.replace("{port}", str(port)), log)
    try:
        _wait(f"http://127.0.0.1:{port}/health/ready", process)
        outcome.seconds = time.monotonic() - began
        outcome.timings = sweep(f"http://127.0.0.1:{port}/v1")
        late = [timing.kind for timing in outcome.timings if timing.late]
        outcome.problem = f"slow as a first request: {', '.join(late)}" if late else ""
        os.killpg(process.pid, signal.SIGINT)
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        outcome.problem = f"still runs {STOP:.0f} s after Ctrl-C"
    except (RuntimeError, OSError, httpx2.HTTPError) as error:
        outcome.problem = str(error) or type(error).__name__
        outcome.summary = last_words(log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return outcome


def _wait(url: str, process: subprocess.Popen[bytes], sleep: Callable[[float], None] = time.sleep) -> None:
    deadline = time.monotonic() + SET_UP
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ended with exit code {process.returncode}")
        try:
            if httpx2.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        sleep(1)
    raise RuntimeError(f"not ready after {SET_UP:.0f} s")


def last_words(log: Path) -> str:
    """Return the last line of `log` that says something for people."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("set-up: ", "error: "))] or lines[-1:]
    return said[-1] if said else ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
