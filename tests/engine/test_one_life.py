"""One gateway from start to end: first requests, an engine that dies or hangs, a killed batch, SIGTERM.

It has a PATH without compilers, empty caches and a long path for temporary files. `make fresh-machine` tests
what else a machine may lack. The tests run in the order of that life.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from openai import AsyncOpenAI

from gateway.engine.runtime_directory import PREFIX
from gateway.schema.completions import CompletionRequest
from gateway.schema.sampling import SamplingFields
from gateway.storage.database import NAME
from tests.api.asking import chat
from tests.api.wire import CHAT
from tests.engine.batch import LINES, answer, answers_by_name, begin, client, completed, results_in, wait
from tests.servers import Gateway, core, metric, start, wait_until_ready
from tests.shapes import data_url
from tools.fresh_machine.first_requests import FIELDS, sweep

pytestmark = pytest.mark.engine

COMPILERS = re.compile(r".*(g\+\+|gcc|clang|cpp).*|c\+\+.*|cc|c89.*|c99.*")
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT")
LONG = 73  # characters: with vLLM's file names, too long for a socket's path
SOON = 5.0  # seconds; an idle gateway takes half a second, and vLLM killed its core after ten


class Life:
    """A gateway, its process, and when that was started (`time.monotonic`)."""

    gateway: Gateway
    process: subprocess.Popen[bytes]
    at: float

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> None:
        self.at = time.monotonic()
        self.gateway, self.process = start(self.folder, profile="demo", heartbeat_timeout="3")

    @property
    def family(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children(recursive=True)
        assert any("EngineCore" in member.name() for member in found)
        return found


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
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
    life = Life(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs))
        patch.setenv("TMPDIR", str(temporary))
        for name in CACHES:
            patch.setenv(name, str(folder / "cache"))
        life.begin()
        try:
            yield life
        finally:
            life.process.kill()
            life.process.wait()


@pytest.fixture(scope="module")
def bare(started: Life) -> Life:
    """Wait until it is ready."""
    wait_until_ready(started.gateway, started.process)
    return started


def test_it_listens_within_10_s_and_sends_away_until_the_engine_is_up(started: Life) -> None:
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


def test_the_first_request_of_every_kind_is_as_fast_as_the_second(bare: Life) -> None:
    assert set(FIELDS) == set(SamplingFields.model_fields)  # a new one belongs there
    assert set(CompletionRequest.model_fields) - set(FIELDS) == {
        *("model", "prompt", "echo", "stream", "stream_options")
    }
    assert [timing for timing in sweep(bare.gateway.api) if timing.late] == []


# The next requests' texts and image, and how vLLM and Python would print them.
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
                    max_tokens=800,
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
    number: signal.Signals, bare: Life
) -> None:
    gateway = bare.gateway
    restarts, hangs = [
        await metric(gateway, f"gateway_engine_{name}_total") for name in ("restarts", "hangs")
    ]
    asked = asyncio.create_task(answers(gateway, 6))
    async with asyncio.timeout(10):  # not a fixed time: a fast machine answers them in a second
        while await metric(gateway, "vllm:num_requests_running") < 6:  # noqa: ASYNC110  # it knows no event
            await asyncio.sleep(0.01)
    server = core(gateway).ppid()
    core(gateway).send_signal(number)
    assert await asked == ["length"] * 6
    assert await metric(gateway, "gateway_engine_restarts_total") == restarts + 1
    hung = number is signal.SIGSTOP
    assert await metric(gateway, "gateway_engine_hangs_total") == hangs + hung
    assert gateway.log is not None
    logged = gateway.log.read_text()
    assert "engine_died" in logged
    assert core(gateway).ppid() == server  # The next engine is forked by the process that forked the first.
    runs = [json.loads(line) for line in logged.splitlines() if '"engine_runs"' in line]
    # The profile's environment gives the KV cache its size, after a restart too.
    assert len({run["kv_cache_tokens"] for run in runs}) == 1
    assert len(runs) == restarts + 2
    assert [one for one in NEVER_LOGGED if one in logged] == []


def test_a_batch_of_a_killed_gateway_goes_on_and_no_line_is_lost_or_repeated(bare: Life) -> None:
    database = bare.folder / "state" / NAME
    family = bare.family
    with client(bare.gateway) as asking:
        batch = wait(asking, begin(asking), lambda now: completed(now) >= LINES // 4)
    assert batch.status == "in_progress"
    bare.process.kill()
    bare.process.wait(30)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []  # The engine ends with its gateway.
    finished = results_in(database)
    assert LINES // 4 <= len(finished) < LINES

    bare.begin()
    wait_until_ready(bare.gateway, bare.process)
    with client(bare.gateway) as asking:
        batch = wait(asking, batch, lambda now: now.status not in ("in_progress", "finalizing"))
        results = asking.files.content(batch.output_file_id or "").read().splitlines()
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": LINES, "completed": LINES, "failed": 0}
    counted = asyncio.run(metric(bare.gateway, "gateway_batch_lines_total", outcome="completed"))
    assert counted == LINES - len(finished)  # what the killed process finished does not count again
    assert finished <= set(results)  # Finished lines are unchanged, byte for byte.
    texts = answers_by_name(results)
    assert len(texts) == len(results) == LINES
    right = sum(texts[str(number)] == answer(number) for number in range(LINES))
    assert right >= LINES * 0.95


def test_it_leaves_soon_with_0_and_no_process_or_file_behind(bare: Life) -> None:
    gateway, process = bare.gateway, bare.process
    family = bare.family
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
