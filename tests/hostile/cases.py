"""What a case is: something hostile, and the exact answer to it."""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.api.asking import chat, image, saying, text
from tests.api.wire import Answer, connected, head, post
from tests.images.pictures import data_url
from tests.servers import Gateway

ROOT = Path(__file__).parents[2]
LEAKS = (
    *(str(path).encode() for path in (ROOT, sys.prefix, Path.home(), tempfile.gettempdir())),
    *(b"Traceback", b"site-packages", b'.py", line', b" object at 0x", b"sk-secret", b"PIL.", b"vllm"),
    *(b"127.0.0.1", b"[::1]", b"localhost", b"root:"),
)

# Of what the cases send: the key, prompts and images, and tracebacks that would show them.
NEVER_LOGGED = (
    *("sk-secret", "What is it?", "DROP TABLE", "[INST]", "jndi", "aaaaaaaaaa", "base64,", "data:image"),
    *("pixel_values", "prompt_token_ids", "SamplingParams(", "PIL."),
)
HONEST = chat(max_tokens=3, temperature=0)


@dataclass(frozen=True)
class Case:
    """A chat request's body (bytes, JSON, or what makes one), and the status and code that answer it."""

    name: str
    body: Any = field(repr=False)
    code: str | None = "invalid_value"  # None: it is answered, with a 200
    status: int = 400

    @property
    def made(self) -> Any:
        body = self.body() if callable(self.body) else self.body
        return body if isinstance(body, bytes) else json.dumps(body).encode()

    @property
    def outcome(self) -> tuple[int, str | None]:
        return (200, None) if self.code is None else (self.status, self.code)


def of_field(name: str, *values: Any, code: str | None = "invalid_value") -> list[Case]:
    """Return a case for each value of a request's field."""
    return [Case(f"{name}={str(value)[:40]}", chat(**{name: value}), code) for value in values]


def of_json(name: str, fields: str, code: str | None = "invalid_json") -> Case:
    """Return a case of fields that no JSON writer would write so."""
    whole = b'{"model": "llava-demo", "messages": [{"role": "user", "content": "What is it?"}], %s}'
    return Case(name, whole % fields.encode("utf-8", "surrogatepass"), code)


def of_picture(name: str, data: bytes | Callable[[], bytes], code: str | None, **options: Any) -> Case:
    """Return a case of one picture's bytes."""

    def body() -> dict[str, Any]:
        return of_url(data_url(data() if callable(data) else data))

    return Case(name, body, code, **options)


def of_url(url: str) -> dict[str, Any]:
    return chat(messages=saying(text("What is it?"), image(url)), max_tokens=4)


def shown_in(log: str) -> list[str]:
    """Return what `log` shows of the requests. It must have a line of each."""
    assert "request_id" in log
    return [secret for secret in NEVER_LOGGED if secret in log]


def outcome(answer: Answer) -> tuple[int, str | None]:
    """Return what `Case.outcome` foretells. Errors are OpenAI's object and give nothing away."""
    headers = repr(answer.headers).encode()
    for leak in LEAKS:
        assert leak not in headers, headers
    if answer.status == 200:
        return 200, None
    for leak in LEAKS:
        assert leak not in answer.body, answer.body
    assert len(answer.error["message"]) < 500, answer.body
    return answer.status, answer.error["code"]


async def posted(gateway: Gateway, body: bytes, seconds: float = 10) -> Answer:
    async with connected(gateway) as connection:
        await connection.send(post(body, "authorization: Bearer sk-secret"))
        return await connection.answer(seconds)


async def holds(gateway: Gateway, case: Case) -> None:
    """Send the case, expect its answer, and after it the right answer to an honest request."""
    await answers(gateway, case)
    await serves(gateway)


async def answers(gateway: Gateway, case: Case, seconds: float = 10) -> None:
    """Send the case and expect its answer within `seconds`."""
    answer = await posted(gateway, case.made, seconds)
    assert outcome(answer) == case.outcome, (case.name, answer.body[:500])


async def serves(gateway: Gateway) -> None:
    """The gateway is alive, and the next honest request is answered."""
    async with connected(gateway) as connection:
        await connection.send(head("GET", "/health/ready"))
        assert (await connection.answer()).status == 200
        await connection.send(post(HONEST))
        answer = await connection.answer()
    assert answer.status == 200, answer.body
    assert orjson.loads(answer.body)["choices"][0]["message"]["content"]
