"""TLS in front of the gateway, with the configurations of nginx and Caddy in deploy/."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import orjson
import pytest
from structlog.testing import capture_logs

from tests.api.asking import chat
from tests.scripted_engine import ScriptedEngine
from tests.servers import PROMPTLY, free_port, scripted_gateway, until
from tests.tls_proxies import PROXIES, make_certificate

pytestmark = pytest.mark.slow

BEHIND = {"trusted_proxies": "127.0.0.1", "client_address_header": "x-forwarded-for"}
ANOTHER = "127.0.0.2"  # a client's address that is not the proxy's own


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certified")
    make_certificate(folder)
    return folder


@pytest.fixture(params=sorted(PROXIES))
async def client(
    request: pytest.FixtureRequest, certified: Path, engine: ScriptedEngine
) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client of another address that trusts the proxy's certificate."""
    port = free_port()
    trusting = ssl.create_default_context(cafile=certified / "certificate.pem")
    settings = BEHIND | {"allowed_hosts": "localhost", "body_max_bytes": 2_000_000, "port": port}
    async with scripted_gateway(engine, **settings):
        with PROXIES[request.param](certified, port) as address:
            transport = httpx2.AsyncHTTPTransport(verify=trusting, local_address=ANOTHER)
            async with httpx2.AsyncClient(base_url=address, transport=transport, timeout=30) as yielded:
                yield yielded


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(words=(" word",) * 100, pause=0.3)


async def test_a_token_arrives_before_the_next_is_made_and_a_client_that_leaves_ends_its_request(
    client: httpx2.AsyncClient, engine: ScriptedEngine
) -> None:
    async with client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: ") and orjson.loads(line[6:])["choices"][0]["delta"].get("content"):
                break
        assert engine.running == 1
    await until(lambda: engine.running == 0, PROMPTLY)


async def test_the_gateway_sees_the_clients_address_and_not_what_the_client_says(
    client: httpx2.AsyncClient,
) -> None:
    with capture_logs() as lines:
        answer = await client.get("/v1/models", headers={"x-forwarded-for": "203.0.113.9"})
    assert answer.status_code == 200
    (line,) = [line for line in lines if line.get("route") == "/v1/models"]
    assert line["caller"] == f"address:{ANOTHER}"


async def test_only_the_gateway_limits_bodies(client: httpx2.AsyncClient) -> None:
    three_megabytes = {"file": ("file.jsonl", b"{}\n" * 1_000_000)}
    upload = await client.post("/v1/files", data={"purpose": "batch"}, files=three_megabytes)
    assert (upload.status_code, upload.json()["bytes"]) == (200, 3_000_000)
    refused = await client.post("/v1/chat/completions", content=b" " * 2_000_001)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")


async def test_metrics_are_not_shown_outside(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/metrics")).status_code == 404


@pytest.mark.parametrize("proxy", sorted(PROXIES))
async def test_without_a_gateway_the_proxy_answers_with_openais_error(proxy: str, certified: Path) -> None:
    trusting = ssl.create_default_context(cafile=certified / "certificate.pem")
    with PROXIES[proxy](certified, free_port()) as address:
        async with httpx2.AsyncClient(verify=trusting, trust_env=False) as client:
            answer = await client.post(f"{address}/v1/chat/completions", json=chat())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "unavailable"
