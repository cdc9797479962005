"""Requests of every sort to a running gateway, for what an operator looks at."""

import json
import socket
import time
from urllib.parse import urlsplit

import httpx2
from PIL import Image

from tests.images.pictures import url_of

NOWHERE = "http://127.0.0.1:1/a.png"
BATCH_WITHIN = 60.0  # seconds


def send_every_sort(url: str) -> None:
    """Send texts, images, streams, refusals, a fetch that fails, a client that leaves and a batch."""
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
        for body in (chat("What is it?"), chat("Describe it.", stream=True)):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        noise = url_of(Image.effect_noise((50, 50), 90))
        for _ in range(2):  # the second is found in the cache
            assert client.post("/v1/chat/completions", json=chat("What is it?", noise)).status_code == 200
        assert client.post("/v1/chat/completions", json=chat("What?", NOWHERE)).status_code == 400
        assert client.post("/v1/chat/completions", json=chat("What?", model="x")).status_code == 404
        leave(url)
        run_batch(client)


def chat(question: str, image: str | None = None, **fields: object) -> dict[str, object]:
    parts: list[dict[str, object]] = [{"type": "text", "text": question}]
    if image is not None:
        parts.append({"type": "image_url", "image_url": {"url": image}})
    messages = [{"role": "user", "content": parts}]
    return {"model": "llava-demo", "messages": messages, "max_tokens": 8, **fields}


def leave(url: str) -> None:
    """Ask for an answer of seconds even on a fast machine, and close the connection after 0.2 s."""
    body = json.dumps(chat("Go on.", max_tokens=3000, ignore_eos=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    address = urlsplit(url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80)) as connection:
        connection.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        time.sleep(0.2)


def run_batch(client: httpx2.Client) -> None:
    line = {"method": "POST", "url": "/v1/chat/completions", "body": chat("What is it?")}
    lines = "\n".join(json.dumps({"custom_id": str(number), **line}) for number in range(2))
    upload = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", lines.encode())})
    asked = {
        "input_file_id": upload.json()["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    batch = client.post("/v1/batches", json=asked).json()
    deadline = time.monotonic() + BATCH_WITHIN
    while batch["status"] != "completed":
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
        batch = client.get(f"/v1/batches/{batch['id']}").json()
