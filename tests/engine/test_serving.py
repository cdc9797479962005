"""How `llava-gateway serve` comes up, what it says meanwhile, and how it leaves."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers import Gateway, start, wait_until_ready

pytestmark = pytest.mark.engine


def test_it_listens_within_10_s_and_sends_away_until_the_engine_is_up(tmp_path: Path) -> None:
    began = time.monotonic()
    gateway, process = start(tmp_path, profile="demo")
    try:
        while not _listens(gateway):
            assert process.poll() is None
        assert time.monotonic() - began < 10
        status, headers, body = _get(f"{gateway.url}/health/ready")
        assert (status, headers["retry-after"], body["status"]) == (503, "5", "starting")
        assert body["stage"]
        request = {"model": "llava-demo", "messages": [{"role": "user", "content": "Hello"}]}
        status, headers, body = _get(f"{gateway.url}/v1/chat/completions", json.dumps(request).encode())
        assert (status, headers["retry-after"], body["error"]["code"]) == (503, "5", "engine_not_ready")
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_start_hears_of_the_weights_from_vllms_worker(gateway: Gateway) -> None:
    assert gateway.log is not None
    assert "Attempted to load weight" not in gateway.log.read_text()  # vLLM, once per tensor
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    stages = [line["stage"] for line in lines if line["event"] == "engine_stage"]
    # The worker counts bytes while it loads; "warming up" comes when it has counted all of them.
    assert [stage for stage in stages if stage != "loading the weights"][:4] == [
        "importing vLLM",
        "starting vLLM's processes",
        "warming up",
        "ready",
    ]


def test_an_engine_that_dies_is_started_again(gateway: Gateway) -> None:
    core = [child for child in psutil.Process(gateway.pid).children() if "EngineCore" in child.name()]
    os.kill(core[0].pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _get(f"{gateway.url}/health/ready")[0] != 503:
        assert time.monotonic() < deadline
    wait_until_ready(gateway)
    request = {"model": "llava-demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    status, _, body = _get(f"{gateway.url}/v1/chat/completions", json.dumps(request).encode())
    assert (status, body["usage"]["completion_tokens"]) == (200, 4)


def test_a_port_that_is_taken_is_said_and_ends_with_1(gateway: Gateway, tmp_path: Path) -> None:
    port = gateway.url.rpartition(":")[2]
    _, process = start(tmp_path, "--port", port, profile="demo")
    assert process.wait(60) == 1
    told = (tmp_path / "gateway.log").read_text()
    assert told == f"error: port {port} of 127.0.0.1 is in use; choose another with --port\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (("--profile", "no-such"), {}, "no such profile"),
        ((), {"prot": "8000"}, "GATEWAY_PROT: there is no such setting"),
        ((), {"max_images": "many"}, "GATEWAY_MAX_IMAGES"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    _, process = start(tmp_path, *arguments, **settings)
    assert process.wait(60) == 2
    assert said in (tmp_path / "gateway.log").read_text()


def _listens(gateway: Gateway) -> bool:
    try:
        return _get(f"{gateway.url}/health/live")[0] == 200
    except urllib.error.URLError:
        time.sleep(0.05)
        return False


def _get(url: str, body: bytes | None = None) -> tuple[int, dict[str, str], dict[str, Any]]:
    try:
        asked = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)
