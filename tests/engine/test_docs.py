"""The docs' examples are answered by the real engine."""

import httpx2
import pytest

from gateway.api.examples import of_routes
from tests.servers import Gateway

pytestmark = pytest.mark.engine

EXAMPLES = of_routes("llava-demo")


@pytest.mark.parametrize(("method", "path"), EXAMPLES)
async def test_an_example_is_answered(gateway: Gateway, method: str, path: str) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.request(method, gateway.url + path, json=EXAMPLES[method, path])
    assert answer.status_code == 200, answer.text
    if path in ("/v1/chat/completions", "/v1/responses"):
        assert "red circle" in answer.text
