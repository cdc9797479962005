"""A batch on the real engine: killed half way and started again, each line is answered once, and rightly."""

import asyncio
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import openai
import orjson
import psutil
import pytest
from openai.types import Batch

from gateway.storage.database import NAME
from tests.servers import Gateway, metric, start, wait_until_ready
from tests.shapes import data_url
from tests.snippets import python

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
SHAPES = [(kind, colour) for kind in ("circle", "square", "star") for colour in ("red", "blue", "green")]
LINES = 90


def test_a_killed_batch_goes_on_and_no_line_is_lost_or_repeated(tmp_path: Path) -> None:
    state = tmp_path / "state"
    gateway, process = start(tmp_path, profile="demo", state_dir=str(state))
    try:
        wait_until_ready(gateway, process)
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("EngineCore" in member.name() for member in family)
        with _client(gateway) as client:
            batch = _wait(client, _begin(client), lambda now: _completed(now) >= LINES // 4)
        assert batch.status == "in_progress"
    finally:
        process.kill()
        process.wait(30)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []  # The engine ends with its gateway.
    finished = _finished(state)
    assert LINES // 4 <= len(finished) < LINES

    gateway, process = start(tmp_path, profile="demo", state_dir=str(state))
    try:
        wait_until_ready(gateway, process)
        with _client(gateway) as client:
            batch = _wait(client, batch, lambda now: now.status not in ("in_progress", "finalizing"))
            results = client.files.content(batch.output_file_id or "").read().splitlines()
        counted = asyncio.run(metric(gateway, "gateway_batch_lines_total", outcome="completed"))
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": LINES, "completed": LINES, "failed": 0}
    assert counted == LINES - len(finished)  # what the killed process finished does not count again
    assert finished <= set(results)  # What was finished is as it was, to the byte.
    by_name = {}
    for result in map(orjson.loads, results):
        assert result["custom_id"] not in by_name
        by_name[result["custom_id"]] = result["response"]["body"]["choices"][0]["message"]["content"]
    right = sum(by_name[str(number)] == f"A {_colour(number)} {_kind(number)}." for number in range(LINES))
    assert right >= LINES * 0.95


def _completed(batch: Batch) -> int:
    return batch.request_counts.completed if batch.request_counts else 0


def test_the_snippets_of_the_docs_run(gateway: Gateway, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "batches.md").read_text()
    [line] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (tmp_path / "requests.jsonl").write_text(line)
    program = "\n".join(python(text))
    program = program.replace("http://127.0.0.1:8000", gateway.url)
    program = program.replace("requests.jsonl", str(tmp_path / "requests.jsonl"))
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", f"{program}\nprint(batch.id)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    answer, batch_id = done.stdout.splitlines()
    assert answer == "A red circle and a blue square."
    with openai.OpenAI(base_url=gateway.api, api_key="none") as client:
        batch = _wait(client, client.batches.retrieve(batch_id), lambda now: now.status == "completed")
        assert _completed(batch) == 1


def _kind(number: int) -> str:
    return SHAPES[number % len(SHAPES)][0]


def _colour(number: int) -> str:
    return SHAPES[number % len(SHAPES)][1]


def _begin(client: openai.OpenAI) -> Batch:
    lines = []
    for number in range(LINES):
        # Each another picture, so that no cache makes it quick.
        url = data_url(_kind(number), _colour(number), x=0.3 + 0.4 * number / LINES)
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "What is in the image?"},
        ]
        body = {"model": "llava-demo", "messages": [{"role": "user", "content": parts}], "temperature": 0}
        lines.append(
            {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
        )
    file = client.files.create(file=("in.jsonl", b"\n".join(map(orjson.dumps, lines))), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def _client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.api, api_key="sk-batch")


def _wait(client: openai.OpenAI, batch: Batch, condition: Callable[[Batch], bool]) -> Batch:
    deadline = time.monotonic() + 120
    while not condition(batch):
        assert time.monotonic() < deadline, batch
        time.sleep(0.02)
        batch = client.batches.retrieve(batch.id)
    return batch


def _finished(state: Path) -> set[bytes]:
    connection = sqlite3.connect(state / NAME)
    rows = connection.execute("SELECT result FROM batch_lines WHERE result IS NOT NULL").fetchall()
    connection.close()
    return {bytes(result).rstrip(b"\n") for (result,) in rows}
