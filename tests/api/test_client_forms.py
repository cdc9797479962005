"""What programs send beside what OpenAI documents, and get an answer for."""

import base64
import io
from typing import Any

import orjson
import pytest
from PIL import Image

from tests.api.asking import MODEL, QUESTION, send
from tests.each import each
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, metric, scripted_gateway

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [QUESTION]},
    "/v1/chat/completions/render": {"messages": [QUESTION]},
    "/v1/completions": {"prompt": "x"},
    "/v1/responses": {"input": "x", "store": False},
    "/v1/responses/input_tokens": {"input": "x"},
    "/tokenize": {"messages": [QUESTION]},
    "/detokenize": {"tokens": [70]},
}


@each("path", BODIES)
@each("named", [{}, {"model": None}, {"model": ""}])
async def test_the_model_may_be_left_out_for_there_is_one(
    served: Gateway, path: str, named: dict[str, Any]
) -> None:
    answer = await send(served, "POST", path, json={**BODIES[path], **named})
    assert answer.status == 200
    assert orjson.loads(answer.body).get("model", MODEL) == MODEL


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/chat/completions"])
async def test_a_top_p_of_0_is_answered(served: Gateway, path: str) -> None:
    answer = await send(served, "POST", path, json={**BODIES[path], "top_p": 0})
    assert answer.status == 200
    assert orjson.loads(answer.body).get("top_p", 0) == 0


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/chat/completions", "messages"),
        ("/v1/chat/completions/render", "messages"),
        ("/v1/responses", "input"),
        ("/v1/responses/input_tokens", "input"),
        ("/tokenize", "messages"),
    ],
)
async def test_what_programs_add_to_messages_is_told_in_a_header_and_counted(
    served: Gateway, path: str, field: str
) -> None:
    before = await metric(served, "gateway_ignored_fields_total")
    message = {**QUESTION, "timestamp": 1, "näme\r\n": 1}
    body = {"store": False} if path == "/v1/responses" else {}
    answer = await send(served, "POST", path, json={**body, field: [message]})
    assert answer.status == 200
    assert answer.headers["x-gateway-ignored"] == f"{field}[].timestamp, {field}[].n?me??"
    assert await metric(served, "gateway_ignored_fields_total") == before + 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
@pytest.mark.parametrize(
    "switch",
    [
        {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": False}},
        {"thinking": {"type": "disabled"}, "think": False, "reasoning_effort": "none"},
        {"reasoning": {"effort": "low"}, "include_reasoning": False, "thinking_budget": 0},
    ],
)
async def test_switches_for_reasoning_have_no_effect(
    served: Gateway, path: str, switch: dict[str, Any]
) -> None:
    answer = await send(served, "POST", path, json={**BODIES[path], **switch})
    assert answer.status == 200
    assert "x-gateway-ignored" not in answer.headers


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 5000}]}),
        ("/v1/completions", {"prompt": "x" * 5000}),
        ("/v1/completions", {"prompt": [5] * 2048}),
        ("/v1/completions", {"prompt": [5] * 5000}),
        ("/v1/responses", {"input": "x" * 5000}),
        ("/tokenize", {"prompt": "x" * 100_000}),
    ],
)
async def test_a_full_context_says_what_clients_look_for(
    served: Gateway, path: str, fields: dict[str, Any]
) -> None:
    answer = await send(served, "POST", path, json=fields)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    param = answer.error["param"]
    beginning = f"This model's maximum context length is 2048 tokens. {param}: the prompt has "
    assert answer.error["message"].startswith(beginning)


async def test_ten_frames_of_a_camera_are_sampled_where_the_operator_says_so() -> None:
    frames = [{"type": "image_url", "image_url": {"url": png(number)}} for number in range(10)]
    asked = {"messages": [{"role": "user", "content": [*frames, {"type": "text", "text": "Who?"}]}]}
    engine = ScriptedEngine()
    async with scripted_gateway(engine, max_images=4, image_overflow="sample") as gateway:
        answer = await send(gateway, "POST", "/v1/chat/completions", json=asked)
    assert (answer.status, answer.headers["x-gateway-dropped-images"]) == (200, "6")
    shades = [picture.pixels.getpixel((0, 0)) for picture in engine.jobs[0].pictures]
    assert shades == [(number, number, number) for number in (0, 3, 6, 9)]


def png(shade: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
