"""The real engine dies, hangs, or loses its parent: nothing is lost, and nothing is left behind."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import AsyncOpenAI

from tests.servers import Gateway, metric, start, wait_until_ready
from tests.shapes import data_url

pytestmark = pytest.mark.engine


PICTURE: Any = {"type": "image_url", "image_url": {"url": data_url("circle", "red")}}
PIXELS = PICTURE["image_url"]["url"][-60:]
PROMPT = "Unmistakable prompt"
STOP = ["unmistakable stop"]
# Of these requests: their texts, their picture, and how vLLM and Python would show them.
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


def core(gateway: Gateway) -> psutil.Process:
    (found,) = [child for child in psutil.Process(gateway.pid).children() if "EngineCore" in child.name()]
    return found


async def answers(gateway: Gateway, count: int) -> list[str | None]:
    async with AsyncOpenAI(base_url=gateway.api, api_key="none", max_retries=0) as client:
        replies = await asyncio.gather(
            *(
                client.chat.completions.create(
                    model="llava-demo",
                    messages=[
                        {"role": "user", "content": [PICTURE, {"type": "text", "text": f"{PROMPT} {number}"}]}
                    ],
                    max_tokens=400,
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
    number: signal.Signals, tmp_path: Path
) -> None:
    gateway, process = start(tmp_path, profile="demo", heartbeat_timeout="3")
    try:
        await asyncio.to_thread(wait_until_ready, gateway, process)
        asked = asyncio.create_task(answers(gateway, 20))
        await asyncio.sleep(1)
        os.kill(core(gateway).pid, number)
        assert await asked == ["length"] * 20
        assert await metric(gateway, "gateway_engine_restarts_total") == 1
        hung = number is signal.SIGSTOP
        assert await metric(gateway, "gateway_engine_hangs_total") == (1 if hung else 0)
        assert gateway.log is not None
        told = gateway.log.read_text()
        assert "engine_died" in told
        assert [one for one in NEVER_LOGGED if one in told] == []
    finally:
        process.terminate()
    assert process.wait(60) == 0


def test_the_engine_ends_with_a_gateway_that_is_killed(tmp_path: Path) -> None:
    gateway, process = start(tmp_path, profile="demo")
    wait_until_ready(gateway, process)
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("EngineCore" in child.name() for child in family)
    process.kill()
    process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
