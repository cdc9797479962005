"""Makes a batch of questions about drawn shapes, and reads its results."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import openai
import orjson
from openai.types import Batch

from tests.servers import Gateway
from tests.shapes import data_url

SHAPES = [(kind, colour) for kind in ("circle", "square", "star") for colour in ("red", "blue", "green")]
LINES = 90


def answer(number: int) -> str:
    """Return the right answer to a line."""
    kind, colour = SHAPES[number % len(SHAPES)]
    return f"A {colour} {kind}."


def begin(client: openai.OpenAI) -> Batch:
    """Begin a batch of `LINES` questions about an image each."""
    lines = []
    for number in range(LINES):
        # A different image in each line, so that no cache helps.
        kind, colour = SHAPES[number % len(SHAPES)]
        url = data_url(kind, colour, x=0.3 + 0.4 * number / LINES)
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


def client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.api, api_key="sk-batch")


def wait(client: openai.OpenAI, batch: Batch, condition: Callable[[Batch], bool]) -> Batch:
    deadline = time.monotonic() + 120
    while not condition(batch):
        assert time.monotonic() < deadline, batch
        time.sleep(0.02)
        batch = client.batches.retrieve(batch.id)
    return batch


def completed(batch: Batch) -> int:
    return batch.request_counts.completed if batch.request_counts else 0


def answers_by_name(results: list[bytes]) -> dict[str, str]:
    """Return the answer's text for each line, by the line's name."""
    return {
        result["custom_id"]: result["response"]["body"]["choices"][0]["message"]["content"]
        for result in map(orjson.loads, results)
    }


def results_in(database: Path) -> set[bytes]:
    """Return the result lines that are stored."""
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT result FROM batch_lines WHERE result IS NOT NULL").fetchall()
    connection.close()
    return {bytes(result).rstrip(b"\n") for (result,) in rows}
