"""One gateway from its start to its end: its first requests, an engine that dies, one that hangs, SIGTERM.

The machine has no compiler, empty caches and a long path for temporary files: a PATH without compilers stands
for it. What else a machine may lack, `make fresh-machine` shows. The tests stand in the order of that life.
"""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from openai import AsyncOpenAI

from gateway.engine.runtime_directory import PREFIX
from gateway.schema.completions import CompletionRequest
from gateway.schema.sampling import SamplingFields
from tests.api.asking import chat
from tests.api.wire import CHAT
from tests.servers import Gateway, core, metric, start, wait_until_ready
from tests.shapes import data_url
from tools.fresh_machine.first_requests import FIELDS, sweep

pytestmark = pytest.mark.engine

COMPILERS = re.compile(r".*(g\+\+|gcc|clang|cpp).*|c\+\+.*|cc|c89.*|c99.*")
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT")
LONG = 73  # characters: with vLLM's names, more than a socket's path may have
SOON = 5.0  # seconds; an idle gateway takes half of one, and vLLM killed its core after ten


@dataclass(frozen=True, slots=True)
class Started:
    """A gateway, its process, and when that was started (`time.monotonic`)."""

    gateway: Gateway
    process: subprocess.Popen[bytes]
    at: float

    @property
    def core(self) -> psutil.Process:
        return core(self.gateway)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Yield a gateway that comes up on such a machine; a test ends it."""
    folder = tmp_path_factory.mktemp("bare")
    programs = folder / "bin"
    programs.mkdir()
    for path in os.get_exec_path():
        for program in Path(path).glob("*"):
            if not COMPILERS.fullmatch(program.name) and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    temporary = folder / "temporary".ljust(LONG, "x")
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs))
        patch.setenv("TMPDIR", str(temporary))
        for name in CACHES:
            patch.setenv(name, str(folder / "cache"))
        began = time.monotonic()
        gateway, process = start(folder, profile="demo", heartbeat_timeout="3")
    try:
        yield Started(gateway, process, began)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def bare(started: Started) -> Started:
    """Return it when it is ready."""
    wait_until_ready(started.gateway, started.process)
    return started


def test_it_listens_within_10_s_and_sends_away_until_the_engine_is_up(started: Started) -> None:
    while not listens(started.gateway):
        assert started.process.poll() is None
    assert time.monotonic() - started.at < 10
    answer = get(f"{started.gateway.url}/health/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["status"] == "starting"
    assert answer.json()["stage"]
    answer = httpx2.post(f"{started.gateway.url}{CHAT}", json=chat(), trust_env=False)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "engine_not_ready"


def test_the_first_request_of_every_kind_is_as_fast_as_the_second(bare: Started) -> None:
    assert set(FIELDS) == set(SamplingFields.model_fields)  # a new one belongs there
    assert set(CompletionRequest.model_fields) - set(FIELDS) == {
        *("model", "prompt", "echo", "stream", "stream_options")
    }
    assert [timing for timing in sweep(bare.gateway.api) if timing.late] == []


# Of the next requests: their texts, their picture, and how vLLM and Python would show them.
SHOWN: Any = {"type": "image_url", "image_url": {"url": data_url("circle", "red")}}
PIXELS = SHOWN["image_url"]["url"][-60:]
PROMPT = "Unmistakable prompt"
STOP = ["unmistakable stop"]
NEVER_LOGGED = (
    PROMPT,
    *STOP,
    PIXELS,
    "tensor(",
    "pixel_values",
    "prompt_token_ids",
    "SamplingParams(",
    "PIL.",
)


async def answers(gateway: Gateway, count: int) -> list[str | None]:
    async with AsyncOpenAI(base_url=gateway.api, api_key="none", max_retries=0) as client:
        replies = await asyncio.gather(
            *(
                client.chat.completions.create(
                    model="llava-demo",
                    messages=[
                        {"role": "user", "content": [SHOWN, {"type": "text", "text": f"{PROMPT} {number}"}]}
                    ],
                    max_tokens=400,
                    stop=STOP,
                    temperature=0,
                    extra_body={"ignore_eos": True},
                )
                for number in range(count)
            )
        )
    return [reply.choices[0].finish_reason for reply in replies]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_requests_that_had_sent_nothing_are_answered_by_the_next_engine(
    number: signal.Signals, bare: Started
) -> None:
    gateway = bare.gateway
    restarts, hangs = [
        await metric(gateway, f"gateway_engine_{name}_total") for name in ("restarts", "hangs")
    ]
    asked = asyncio.create_task(answers(gateway, 6))
    await asyncio.sleep(1)
    bare.core.send_signal(number)
    assert await asked == ["length"] * 6
    assert await metric(gateway, "gateway_engine_restarts_total") == restarts + 1
    hung = number is signal.SIGSTOP
    assert await metric(gateway, "gateway_engine_hangs_total") == hangs + hung
    assert gateway.log is not None
    logged = gateway.log.read_text()
    assert "engine_died" in logged
    assert [one for one in NEVER_LOGGED if one in logged] == []


def test_it_leaves_soon_with_0_and_no_process_or_file_behind(bare: Started) -> None:
    gateway, process = bare.gateway, bare.process
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("EngineCore" in child.name() for child in family)
    sockets = [str(opened.laddr) for opened in psutil.Process(process.pid).net_connections("unix")]
    (directory,) = {Path(path).parent for path in sockets if path.startswith("/")}
    assert directory.name.startswith(PREFIX)
    assert gateway.log is not None
    logged = len(gateway.log.read_text())
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(60) == 0
    assert time.monotonic() - began < SOON
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert not directory.exists()
    (temporary,) = gateway.log.parent.glob("temporary*")
    assert list(temporary.iterdir()) == []
    assert "force killing" not in gateway.log.read_text()[logged:]


def listens(gateway: Gateway) -> bool:
    try:
        return get(f"{gateway.url}/health/live").status_code == 200
    except httpx2.ConnectError:
        time.sleep(0.05)
        return False


def get(url: str) -> httpx2.Response:
    return httpx2.get(url, timeout=30, trust_env=False)
