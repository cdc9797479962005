"""The two servers, each in a process of its own, on the same engine with the same arguments."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from engine_config import profile as profiles
from engine_config.profile import EngineProfile
from gateway.engine.environment import of_engine
from gateway.engine.vllm_model import engine_arguments
from gateway.settings import Settings
from tests.servers import free_port

READY_WITHIN = 300.0  # seconds
LEAVE_WITHIN = 60.0
TEMPLATE = Path(__file__).parent / "card.jinja"
NAMES = ("ours", "vllm")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    name: str
    port: int
    pid: int
    start_seconds: float


class StartFailed(Exception):
    """A server did not come up; the message ends with the end of its log."""


def command(name: str, profile: str, port: int, images: int | None = None) -> list[str]:
    """Return the command that runs server `name`, one of NAMES, with the settings of `profile`.

    A request may have `images` images; None means our server's default.
    """
    if name == "ours":
        return [sys.executable, "-m", "gateway", "serve", "--port", str(port), "--profile", profile]
    chosen = profiles.load(profile)
    if chosen.prompt_style != "card":
        raise ValueError(f"profile {profile!r}: {TEMPLATE.name} renders the style `card` and no other")
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--served-model-name", chosen.served_name),
        *("--chat-template", str(TEMPLATE), "--chat-template-content-format", "openai"),
        *flags(engine_arguments(chosen, images or max_images())),
    ]


def max_images() -> int:
    """Return how many pictures a request may have where nobody chose: what our server tells the engine."""
    limit: int = Settings.model_fields["max_images"].default
    return limit


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Return vLLM's engine arguments as flags of its command."""
    written = []
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            written.append(flag)
        elif value is False:
            written.append("--no-" + name.replace("_", "-"))
        elif isinstance(value, Mapping):
            written += [flag, json.dumps(value)]
        else:
            written += [flag, str(value)]
    return written


def environment(profile: EngineProfile) -> dict[str, str]:
    """Return the environment of every process that runs the engine: the gateway's own, said to all."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "VLLM_"))}
    return kept | of_engine(profile, kept)


@contextmanager
def running(name: str, profile: str, log: Path, images: int | None = None) -> Iterator[Server]:
    """Run server `name` until the block ends, its output in `log`. For `images`, see `command`."""
    port = free_port()
    began = time.monotonic()
    own = {} if images is None else {"GATEWAY_MAX_IMAGES": str(images)}
    with process(command(name, profile, port, images), profile, log, own) as started:
        _wait(started, f"http://127.0.0.1:{port}/health", log)
        yield Server(name, port, started.pid, time.monotonic() - began)


@contextmanager
def process(
    arguments: list[str], profile: str, log: Path, own: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in the engine's environment and `own`; at the end of the block leave nothing behind."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            arguments,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment(profiles.load(profile)), **own},
            start_new_session=True,
        )
    try:
        yield started
    finally:
        _stop(started)


def _wait(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    end = log.read_text(errors="replace")[-3000:]
    raise StartFailed(f"{process.args!r}: not ready; exit code {process.poll()}\n{end}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(LEAVE_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # Whatever it started is in its group; that the group has gone is what we want.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
