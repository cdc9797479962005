"""How fast a served shape answers, what it holds in memory, and whether every check passes."""

import time
from dataclasses import dataclass
from typing import Any

import psutil

from tests.images.pictures import url_of
from tools.full_shape.checks import CHECKS, QUESTION, SQUARE
from tools.full_shape.served import NAME, Served, user


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds to the first token of an answer about an image, and tokens per second after it."""

    prompt_tokens: int
    first_token: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Checked:
    """A check: its promise, the seconds that it took, and what it found wrong, if anything."""

    promise: str
    seconds: float
    failure: str | None


async def speed(served: Served, tokens: int = 33) -> Speed:
    """Stream an answer of `tokens` tokens about an image, after a short one to warm up.

    No cache may have the image yet, so this comes before the checks.
    """
    await served.ask(user("Hello"), max_tokens=2)
    began = time.perf_counter()
    arrived = []
    messages: list[Any] = [user(QUESTION, url_of(SQUARE))]
    stream = await served.client.chat.completions.create(
        model=NAME,
        messages=messages,
        temperature=0,
        max_tokens=tokens,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    async for chunk in stream:
        if chunk.choices:
            arrived.append(time.perf_counter())
    assert chunk.usage is not None
    assert chunk.usage.completion_tokens == tokens
    assert chunk.usage.prompt_tokens_details is not None
    assert not chunk.usage.prompt_tokens_details.cached_tokens
    pace = (tokens - 1) / (arrived[-1] - arrived[0])
    return Speed(chunk.usage.prompt_tokens, arrived[0] - began, pace)


async def checked(served: Served) -> list[Checked]:
    """Run every check; one that fails does not keep the others from running."""
    found = []
    for promise, run in CHECKS.items():
        began = time.perf_counter()
        failure = None
        try:
            await run(served)
        except Exception as error:  # noqa: BLE001  # a report tells of whatever went wrong
            failure = f"{type(error).__name__}: {error}"
        found.append(Checked(promise, time.perf_counter() - began, failure))
    return found


def memory(pid: int) -> dict[str, int]:
    """Return the resident bytes of the gateway, process `pid`, and of its engine; shared pages count once."""
    gateway = psutil.Process(pid)
    engine = sum(child.memory_full_info().pss for child in gateway.children(recursive=True))
    return {"gateway": gateway.memory_full_info().pss, "engine": engine}
