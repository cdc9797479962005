"""The page about logs says what the code writes."""

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from gateway.errors import GenerationFailed
from gateway.telemetry import sampling
from tests.api.asking import ask, chat, image, saying, send, text
from tests.collector import collecting
from tests.images.pictures import url_of
from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway
from tests.written_logs import written_to

PAGE = (Path(__file__).parents[2] / "docs/logs.md").read_text()


def fields(table: str) -> set[str]:
    """Return what the first column of a table names."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE.partition(f"| {table} |")[2].partition("\n\n")[0], re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", " ".join(rows)))


async def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the lines of a gateway that is asked all kinds of things, as they are written in production."""
    page = io.StringIO()
    monkeypatch.setattr(sampling, "PER_SECOND", 1)
    with written_to(page, "json"), collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        await _traffic()
    return [orjson.loads(line) for line in page.getvalue().splitlines()]


async def _traffic() -> None:
    pictures = [image(url_of(Image.effect_noise((30, 30), place))) for place in range(3)]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    async with scripted_gateway(ScriptedEngine(), max_images=2) as gateway:
        await ask(gateway, chat(messages=[*saying(text("a"), *pictures)]))
        history = [message for picture in pictures for message in (*saying(picture), _ASSISTANT)]
        await ask(gateway, chat(messages=[*history, *saying(text("b"))], tools=[tool], stream=True))
        await asyncio.gather(*(ask(gateway, chat(model="x")) for _ in range(3)))
        await asyncio.sleep(1)
        await ask(gateway, chat(model="x"))
        await ask(gateway, x_stainless_read_timeout="1e-9")
        await send(gateway, "GET", "/health")
    for fails_at in (0, 1):
        engine = ScriptedEngine(error=GenerationFailed("it died"), fails_at=fails_at)
        async with scripted_gateway(engine) as gateway:
            await ask(gateway, chat(stream=True))


_ASSISTANT = {"role": "assistant", "content": "A."}


async def test_page_names_the_fields_and_outcomes_that_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = await written(monkeypatch)
    requests = [line for line in lines if line["event"] == "request"]
    assert fields("field") == {name for line in requests for name in line}
    seen = {re.sub(":.*", ":CODE", line["outcome"]) for line in requests}
    assert fields("outcome") == seen | {"client_left"}
    failures = [line for line in lines if line["event"] == "request_failed"]
    assert len(failures) == 2
    for line in failures:
        assert {"request_id", "code", "exception"} <= set(line)
        assert "Traceback" in line["exception"]
        assert "scripted_engine.py" in line["exception"]
    assert {line["request_id"] for line in failures} <= {line["request_id"] for line in requests}
