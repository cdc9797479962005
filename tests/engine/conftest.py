"""Fixtures for tests on the real engine. Requests are watched in the client, not in the gateway."""

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.engine.keyed import KEYS
from tests.servers import Gateway, served_gateway
from tests.watching import WatchedStream

_handle = httpx2.AsyncHTTPTransport.handle_async_request


@pytest.fixture(autouse=True)
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(self: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
        response = await _handle(self, request)
        response.stream = WatchedStream(response, f"{request.method} {request.url.path.rstrip('/')}")
        return response

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", handle)


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Yield a gateway on vLLM with the demo model that requires a key, eve's or ann's."""
    keys = ",".join(f"{name}:{key}" for name, key in KEYS.items())
    with served_gateway(tmp_path_factory.mktemp("keyed"), profile="demo", api_keys=keys) as running:
        yield running


@pytest.fixture(scope="session")
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """Yield OpenAI's client, without retries."""
    async with AsyncOpenAI(base_url=gateway.api, api_key="none", max_retries=0) as opened:
        yield opened
