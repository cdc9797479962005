"""What the tests of the HTTP edge ask, and with which clients."""

import asyncio
from typing import Any

import httpx2
import orjson
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.api.wire import CHAT, Answer
from tests.servers import PROMPTLY, Gateway, metric

MODEL = "llava-demo"
QUESTION = {"role": "user", "content": "What is it?"}
PROMPT = "USER: What is it?\nASSISTANT:"  # the question in style `card`, after `<s>`
PROMPT_TOKENS = len(PROMPT) + 1


def chat(**fields: Any) -> dict[str, Any]:
    """Return a request for the question, with `fields` in it or in place of its own."""
    return {"model": MODEL, "messages": [QUESTION], **fields}


def without(name: str) -> dict[str, Any]:
    request = chat()
    del request[name]
    return request


def saying(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one user message of `parts`."""
    return [{"role": "user", "content": list(parts)}]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def sdk(gateway: Gateway, **options: Any) -> AsyncOpenAI:
    """Return OpenAI's own client; it tries once unless told otherwise."""
    # No TLS is spoken, and loading the certificates of all authorities takes longer than most tests.
    plain = DefaultAsyncHttpxClient(verify=False)
    chosen = {"api_key": "sk-secret", "max_retries": 0, "http_client": plain, **options}
    return AsyncOpenAI(base_url=gateway.api, **chosen)


async def ask(gateway: Gateway, body: Any = None, **headers: str) -> Answer:
    """Post `body`, bytes or what becomes JSON; `_` in a header's name stands for `-`."""
    content = body if isinstance(body, bytes) else orjson.dumps(chat() if body is None else body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await send(gateway, "POST", CHAT, content=content, headers=named)


async def send(gateway: Gateway, method: str, path: str, **options: Any) -> Answer:
    async with httpx2.AsyncClient(trust_env=False, timeout=30, verify=False) as client:
        answer = await client.request(method, f"{gateway.url}{path}", **options)
        return Answer(answer.status_code, dict(answer.headers), answer.content)


async def events(gateway: Gateway, **fields: Any) -> list[bytes]:
    """Return the data of a streamed answer's events, `[DONE]` included."""
    answer = await ask(gateway, chat(stream=True, **fields))
    assert answer.status == 200, answer.body
    *found, end = answer.body.split(b"\n\n")
    assert end == b""
    assert all(event.startswith(b"data: ") for event in found)
    return [event.removeprefix(b"data: ") for event in found]


async def idle(gateway: Gateway, seconds: float = PROMPTLY) -> None:
    """Return as soon as no request holds or awaits a ticket. Raises TimeoutError after `seconds`."""
    await reaches(gateway, seconds, gateway_in_flight=0, gateway_waiting=0)


async def reaches(gateway: Gateway, seconds: float = PROMPTLY, **gauges: float) -> None:
    """Return as soon as the gauges have these values. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while {name: await metric(gateway, name) for name in gauges} != gauges:  # noqa: ASYNC110  # it is asked over HTTP
            await asyncio.sleep(0.01)
