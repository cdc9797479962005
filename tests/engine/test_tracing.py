"""Spans, headers and streams report where the time goes, on the real engine."""

import asyncio
import time

import httpx2
import pytest
from PIL import Image

from engine_config.profile import load as load_profile
from gateway.access.admission import ENGINE_RESERVE
from tests.api.asking import chat, image, saying, text
from tests.api.wire import CHAT
from tests.collector import Collector
from tests.images.pictures import url_of
from tests.servers import Gateway

pytestmark = pytest.mark.engine
PARENT = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def timing(gateway: Gateway, body: dict[str, object]) -> tuple[dict[str, float], float]:
    """Return a non-streamed answer's milliseconds, from its header and as its client measured them."""
    began = time.perf_counter()
    answer = httpx2.post(f"{gateway.url}{CHAT}", json=body, timeout=60, trust_env=False)
    seen = (time.perf_counter() - began) * 1000
    return told(answer), seen


def told(answer: httpx2.Response) -> dict[str, float]:
    """Return the milliseconds by step from the header of a non-streamed answer."""
    assert answer.status_code == 200, answer.text
    entries = (entry.partition(";dur=") for entry in answer.headers["server-timing"].split(", "))
    return {step: float(spent) for step, _, spent in entries}


def test_steps_add_up_to_what_the_client_waits(gateway: Gateway) -> None:
    picture = image(url_of(Image.effect_noise((900, 700), 90)))
    body = chat(messages=saying(picture, text("What is it?")), max_tokens=200, ignore_eos=True)
    first, seen = timing(gateway, body)
    assert list(first) == ["wait", "decode", "fit", "queue", "prefill", "generate", "total"]
    assert all(spent >= 0 for spent in first.values())
    total = first.pop("total")
    assert total <= seen
    assert 0.7 * total <= sum(first.values()) <= total
    again, _ = timing(gateway, body)
    assert "fit" not in again  # the picture is cached
    assert again["decode"] < first["decode"]  # of base64 alone


async def asked_at_once(gateway: Gateway, *bodies: dict[str, object]) -> list[dict[str, float]]:
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as client:
        return [told(answer) for answer in await asyncio.gather(*(client.post(CHAT, json=b) for b in bodies))]


async def test_wait_is_for_a_seat_in_a_full_engine(gateway: Gateway) -> None:
    seats = load_profile("demo").max_num_seqs
    seats -= seats // ENGINE_RESERVE  # what one caller may have running
    asked = seats + 20
    times = await asked_at_once(gateway, *[chat(max_tokens=100, ignore_eos=True)] * asked)
    shortest = min(time["prefill"] + time["generate"] for time in times)
    waited = [time["wait"] for time in times if time["wait"] > shortest / 2]
    assert len(waited) == asked - seats
    assert min(waited) > 0.9 * shortest  # until the first answers have ended


async def test_queue_is_the_wait_for_the_prefill_of_others(gateway: Gateway) -> None:
    """Two of these prompts fill one step of the engine."""
    bodies = [
        chat(messages=saying(text(f"{number}. " + "What is it? " * 250)), max_tokens=1)
        for number in range(12)
    ]
    times = await asked_at_once(gateway, *bodies)
    queues = sorted(time["queue"] for time in times)
    assert queues[-1] > 3 * min(time["prefill"] for time in times)
    assert all(time["queue"] <= time["total"] for time in times)


def test_spans_of_the_gateway_and_of_vllm(gateway: Gateway, collector: Collector) -> None:
    picture = image(url_of(Image.effect_noise((90, 70), 90)))
    answer = httpx2.post(
        f"{gateway.url}{CHAT}",
        json=chat(messages=saying(picture, text("What is it?")), max_tokens=50),
        headers={"traceparent": f"00-{PARENT[0]}-{PARENT[1]}-01"},
        timeout=60,
        trust_env=False,
    )
    (span,) = collector.wait("chat llava-demo", trace=PARENT[0])
    (theirs,) = collector.wait("llm_request", trace=PARENT[0])
    usage = answer.json()["usage"]
    assert (span.trace, span.parent) == PARENT
    assert span.attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert span.attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    steps = {step.name: step for step in collector.children(span)}
    assert set(steps) == {"wait", "decode", "fit", "queue", "prefill", "generate", "llm_request"}
    for step in steps.values():
        assert span.start <= step.start + 0.001
        assert step.end <= span.end + 0.1
    assert theirs.parent == span.id
    assert theirs.attributes["gen_ai.usage.prompt_tokens"] == usage["prompt_tokens"]
    assert theirs.attributes["gen_ai.latency.time_in_model_prefill"] == pytest.approx(
        steps["prefill"].seconds, abs=0.001
    )
