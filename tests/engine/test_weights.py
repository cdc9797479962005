"""`llava-gateway serve` fetches the weights that are not here, from a hub on this machine, and comes up."""

import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from openai import OpenAI

from engine_config import profile as profiles
from tests.hub import REPO, Hub, files_of, served
from tests.servers import Gateway, start, wait_until_ready
from tests.shapes import data_url

pytestmark = pytest.mark.engine


def test_the_first_start_fetches_the_weights_shows_how_far_it_is_and_continues_where_it_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (profiles.PROFILES / "demo.toml").read_text().replace('"demo_model"', f'"{REPO}"')
    (tmp_path / "mine.toml").write_text(text)
    with served(Hub(files_of(profiles.FOLDER / "demo_model"), stall_after=4_500_000)) as hub:
        for name, value in (hub.environment | {"HF_HOME": str(tmp_path)}).items():
            monkeypatch.setenv(name, value)
        gateway, process = start(tmp_path, profile=str(tmp_path / "mine.toml"))
        try:
            while "4.2 of 8.6 MB" not in _stage(gateway):
                assert process.poll() is None
            assert _stage(gateway).startswith(f"fetching {REPO}: 4.2 of 8.6 MB")
            hub.stall_after = None
            hub.hang_up.set()
            wait_until_ready(gateway, process)
            assert hub.ranges() == ["bytes=0-", "bytes=4194304-"]
            # vLLM and transformers then read the folder and ask the hub for nothing.
            assert hub.asked[-1].startswith("HEAD ")
            assert hub.asked[-1].endswith("/model.safetensors -")
            assert _answer(gateway) == "A red star."
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_weights_that_cannot_be_had_end_the_start_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (profiles.PROFILES / "demo.toml").read_text().replace('"demo_model"', f'"{REPO}"')
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    gateway, process = start(tmp_path, profile=str(tmp_path / "mine.toml"))
    assert process.wait(60) == 1
    assert gateway.log is not None
    log = gateway.log.read_text()
    assert f"HF_HUB_OFFLINE is set, and {tmp_path / 'hub'} has no {REPO}: unset it to fetch the model" in log
    assert "Traceback" not in log


def _stage(gateway: Gateway) -> str:
    time.sleep(0.05)
    try:
        with urllib.request.urlopen(f"{gateway.url}/health/ready", timeout=5):
            return "ready"
    except urllib.error.HTTPError as error:
        with error:
            return str(json.load(error)["stage"])
    except urllib.error.URLError:
        return "not listening"


def _answer(gateway: Gateway) -> str | None:
    with OpenAI(base_url=gateway.api, api_key="none") as client:
        reply = client.chat.completions.create(
            model="llava-demo",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": data_url("star", "red")}},
                        {"type": "text", "text": "What is in the image?"},
                    ],
                }
            ],
            temperature=0,
        )
    return reply.choices[0].message.content
