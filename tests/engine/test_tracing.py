"""Where the time goes on the real engine, as spans, headers and streams tell it."""

import time
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from tests.api.asking import chat, image, saying, text
from tests.api.wire import CHAT
from tests.collector import collecting
from tests.images.pictures import url_of
from tests.servers import Gateway, served_gateway

pytestmark = pytest.mark.engine
PARENT = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def timing(gateway: Gateway, body: dict[str, object]) -> tuple[dict[str, float], float]:
    """Return the milliseconds that a whole answer's header tells, and those that its client saw."""
    began = time.perf_counter()
    answer = httpx2.post(f"{gateway.url}{CHAT}", json=body, timeout=60, trust_env=False)
    seen = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, answer.text
    told = (entry.partition(";dur=") for entry in answer.headers["server-timing"].split(", "))
    return {step: float(spent) for step, _, spent in told}, seen


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


def test_spans_of_the_gateway_and_of_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with served_gateway(tmp_path, profile="demo") as gateway:
            picture = image(url_of(Image.effect_noise((90, 70), 90)))
            answer = httpx2.post(
                f"{gateway.url}{CHAT}",
                json=chat(messages=saying(picture, text("What is it?")), max_tokens=50),
                headers={"traceparent": f"00-{PARENT[0]}-{PARENT[1]}-01"},
                timeout=60,
                trust_env=False,
            )
        (span,) = collector.wait("chat llava-demo")
        (theirs,) = collector.wait("llm_request")
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
