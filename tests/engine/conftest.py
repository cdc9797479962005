"""What tests on the real engine ask is watched at the client's end: the gateway is another process."""

import httpx2
import pytest

from tests.conformance.watching import WatchedStream

_handle = httpx2.AsyncHTTPTransport.handle_async_request


@pytest.fixture(autouse=True)
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(self: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
        response = await _handle(self, request)
        response.stream = WatchedStream(response, f"{request.method} {request.url.path.rstrip('/')}")
        return response

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", handle)
