"""Floods by one caller, eve: `python -m tests.engine.floods NAME URL` sends one until it is killed.

It is a separate process, so that it does not slow the event loop that measures another caller's requests.
"""

import asyncio
import base64
import io
import os
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import uvloop
from PIL import Image

from tests.api.wire import CHAT, connected, head
from tests.engine.keyed import KEYS
from tests.servers import Gateway

PICTURES = int(os.environ.get("FAIRNESS_PICTURES", "60"))
PATIENCE = 120.0  # seconds
GONE = (ConnectionError, asyncio.IncompleteReadError, RuntimeError)  # uvloop's, of a closed transport
IN_NAME = f"authorization: Bearer {KEYS['eve']}"

Flood = Callable[[Gateway], Coroutine[Any, Any, None]]


def saying(content: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "llava-demo", "messages": [{"role": "user", "content": content}], **fields}


async def posted(gateway: Gateway, bodies: Iterable[dict[str, Any]], path: str = CHAT) -> None:
    """Send `bodies` at once on separate connections, and each again as soon as it is answered."""
    await sent(gateway, (request(path, body) for body in bodies))


def request(path: str, body: dict[str, Any]) -> bytes:
    content = orjson.dumps(body)
    return head("POST", path, f"content-length: {len(content)}", IN_NAME) + content


async def sent(gateway: Gateway, requests: Iterable[bytes]) -> None:
    """Send `requests` as `posted` does."""

    async def again(request: bytes) -> None:
        while True:
            # A connection that the gateway closed is opened again.
            with suppress(*GONE):
                async with connected(gateway) as connection:
                    while True:
                        await connection.send(request)
                        await connection.answer(PATIENCE)

    await asyncio.gather(*(again(request) for request in requests))


def heavy(count: int) -> Flood:
    async def flood(gateway: Gateway) -> None:
        await posted(
            gateway, [saying("Hello", n=16, max_tokens=1000, temperature=1, ignore_eos=True)] * count
        )

    return flood


async def slow_connections(gateway: Gateway) -> None:
    """Hold 400 connections that send a byte of their body every half second; reopen closed ones."""
    opening = head("POST", CHAT, IN_NAME, "content-length: 1000")

    async def again() -> None:
        while True:
            with suppress(*GONE):
                async with connected(gateway) as connection:
                    await connection.send(opening)
                    while True:
                        await connection.send(b"{")
                        await asyncio.sleep(0.5)

    await asyncio.gather(*(again() for _ in range(400)))


def many(count: int, body: dict[str, Any], path: str = CHAT) -> Flood:
    """Send `body` to `path`, `count` at once."""

    async def flood(gateway: Gateway) -> None:
        await posted(gateway, [body] * count, path)

    return flood


async def unread_streams(gateway: Gateway) -> None:
    """Request 200 long streams and read nothing."""
    body = saying("Hello", n=16, max_tokens=1000, temperature=1, ignore_eos=True, stream=True)

    async def again() -> None:
        while True:
            with suppress(*GONE):
                async with connected(gateway) as connection:
                    await connection.send(request(CHAT, body))
                    await asyncio.sleep(10)

    await asyncio.gather(*(again() for _ in range(200)))


async def wrong_keys(gateway: Gateway) -> None:
    """Send texts of 100 kB with a wrong key, 500 at once."""
    content = orjson.dumps(saying("x" * 100_000))
    wrong = head("POST", CHAT, f"content-length: {len(content)}", "authorization: Bearer sk-wrong")
    await sent(gateway, [wrong + content] * 500)


async def uploads(gateway: Gateway) -> None:
    """Upload files of 2 MB, 100 at once."""
    lines = ["--b", 'content-disposition: form-data; name="purpose"', "", "user_data", "--b"]
    lines += ['content-disposition: form-data; name="file"; filename="x"', "", ""]
    form = "\r\n".join(lines).encode() + bytes(2_000_000) + b"\r\n--b--\r\n"
    kind = "content-type: multipart/form-data; boundary=b"
    upload = head("POST", "/v1/files", IN_NAME, kind, f"content-length: {len(form)}") + form
    await sent(gateway, [upload] * 100)


async def large_pictures(gateway: Gateway) -> None:
    """Send images of 12 megapixels at once; bytes after the end of each make it unique."""
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).resize((4000, 3000)).save(data, "jpeg")
    urls = (
        f"data:image/jpeg;base64,{base64.b64encode(data.getvalue() + bytes(number)).decode()}"
        for number in range(PICTURES)
    )
    await posted(
        gateway,
        (saying([{"type": "image_url", "image_url": {"url": url}}], max_tokens=8) for url in urls),
    )


FLOODS: dict[str, Flood] = {
    "8 requests of 16 answers": heavy(8),
    "64 requests of 16 answers": heavy(64),
    "400 slow connections": slow_connections,
    # Shorter than the longest possible prompt in bytes, so that each must be tokenized.
    "refused texts of many words": many(500, saying("circle " * 15_700)),
    "refused texts of one word": many(500, saying("x" * 110_000)),
    "large pictures": large_pictures,
}
# `make fairness` alone sends these: each takes as long as all its requests.
MORE: dict[str, Flood] = {
    "texts of very many messages": many(
        30, {"model": "llava-demo", "messages": [{"role": "user", "content": "a"}] * 40_000}
    ),
    "unread streams": unread_streams,
    "wrong keys": wrong_keys,
    "uploads": uploads,
    "completions of 64 prompts": many(
        64, {"model": "llava-demo", "prompt": ["circle " * 100] * 64, "max_tokens": 200}, "/v1/completions"
    ),
    "long texts": many(300, saying("circle " * 3500, max_tokens=1)),
    "tokenize": many(500, {"prompt": "circle " * 3500, "return_token_strs": True}, "/tokenize"),
    "render": many(500, saying("circle " * 3500), f"{CHAT}/render"),
    "stored responses": many(
        300, {"model": "llava-demo", "input": "circle " * 3000, "max_output_tokens": 1}, "/v1/responses"
    ),
}

if __name__ == "__main__":
    uvloop.run((FLOODS | MORE)[sys.argv[1]](Gateway(sys.argv[2])))
