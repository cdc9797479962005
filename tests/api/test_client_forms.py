"""What programs send beside what OpenAI documents, and get an answer for."""

from typing import Any

import orjson
import pytest

from tests.api.asking import MODEL, QUESTION, send
from tests.servers import Gateway

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [QUESTION]},
    "/v1/chat/completions/render": {"messages": [QUESTION]},
    "/v1/completions": {"prompt": "x"},
    "/v1/responses": {"input": "x", "store": False},
    "/v1/responses/input_tokens": {"input": "x"},
    "/tokenize": {"messages": [QUESTION]},
    "/detokenize": {"tokens": [70]},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("named", [{}, {"model": None}, {"model": ""}])
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
