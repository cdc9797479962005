"""The HTTP that browsers, proxies and careless clients speak: HEAD, slashes, CORS, media types, gzip."""

import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from gateway.api.paths import UNSUPPORTED
from tests.api.asking import MODEL, ask, chat, events, send
from tests.api.wire import CHAT, Answer, connected, head
from tests.each import each
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

GETS = ["/health", "/health/live", "/health/ready", "/v1/models", "/v1/models/llava-demo", "/metrics"]
PAGE = "https://chat.example.org"
JSON = "application/json"
# What Chromium asks before openai-node's request.
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-arch,x-stainless-lang,"
    "x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-timeout",
}


@pytest.mark.parametrize("path", GETS)
async def test_head_is_get_without_the_body(served: Gateway, path: str) -> None:
    got = await send(served, "GET", path)
    async with connected(served) as connection:
        await connection.send(head("HEAD", path) + head("GET", "/health/live"))
        status, headers = await connection.head()
        assert (status, headers["content-type"]) == (got.status, got.headers["content-type"])
        if path != "/metrics":  # It grows.
            assert headers["content-length"] == str(len(got.body))
        # What follows is the next answer at once.
        assert (await connection.answer()).body == b'{"status":"live"}'


@pytest.mark.parametrize("path", GETS)
async def test_a_slash_at_the_end_is_the_same_path(served: Gateway, path: str) -> None:
    assert (await send(served, "GET", f"{path}/")).status == 200


async def test_a_chat_with_a_slash_at_the_end_is_answered_without_a_redirect(served: Gateway) -> None:
    answer = await send(served, "POST", f"{CHAT}/", json=chat())
    assert (answer.status, orjson.loads(answer.body)["object"]) == (200, "chat.completion")


async def test_405_names_every_method_of_the_path(served: Gateway) -> None:
    answer = await send(served, "DELETE", "/v1/models")
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.error["message"] == "DELETE /v1/models: method not allowed; allowed: GET, HEAD"


@each(
    "path",
    [
        *UNSUPPORTED,
        "/v1/audio/speech",
        "/v1/images/generations",
        "/v1/threads/x/runs",
        f"{CHAT}/chatcmpl-1",
        f"{CHAT}/chatcmpl-1/messages",
    ],
)
@each("method", ["GET", "POST"])
async def test_what_the_model_cannot_serve_is_a_400_and_not_a_404(
    served: Gateway, method: str, path: str
) -> None:
    answer = await send(served, method, path)
    assert (answer.status, answer.error["code"]) == (400, "unsupported_endpoint")


async def test_paths_without_v1_answer_as_those_with_it(served: Gateway) -> None:
    """Clients whose base URL ends without it; llama.cpp's server and LiteLLM's proxy answer them too."""
    for method, path, body in (
        ("GET", "/models", None),
        ("GET", f"/models/{MODEL}", None),
        ("POST", "/chat/completions", chat()),
        ("POST", "/completions/", {"model": MODEL, "prompt": "x"}),
        ("POST", "/responses", {"model": MODEL, "input": "x"}),
        ("GET", "/files", None),
        ("GET", "/batches", None),
        ("POST", "/chat/completions", {}),
        ("POST", "/models", {}),
        ("GET", "/chat/completions", None),
        ("POST", "/embeddings", {}),
        ("POST", "/images/generations", {}),
    ):
        short = await send(served, method, path, json=body)
        full = await send(served, method, f"/v1{path}", json=body)
        assert short.status == full.status, path
        assert keys(short) == keys(full), path


def keys(answer: Answer) -> Any:
    """Return what two equal questions get alike: an answer's keys, a whole error."""
    body = orjson.loads(answer.body)
    return body if answer.status >= 400 else body.keys()


async def test_an_unknown_path_is_told_where_the_api_is(served: Gateway) -> None:
    twice = "it has /v1 twice; the client adds a part that its base URL already has"
    added = "the client adds a path to its base URL, which should end with /v1"
    general = "the API is at /v1, as in /v1/chat/completions and /v1/models"
    for path, hint in (
        ("/v1/v1/chat/completions", twice),
        (f"{CHAT}/chat/completions", added),
        ("/openai/v1/models", general),
        ("/v1", general),
        ("/api/tags", general),
    ):
        answer = await send(served, "POST", path, json=chat())
        assert (answer.status, answer.error["code"]) == (404, "not_found")
        assert answer.error["message"] == f"POST {path}: there is no such path; {hint}"


async def test_a_path_that_only_begins_like_one_of_those_is_a_404(served: Gateway) -> None:
    assert (await send(served, "POST", "/v1/embeddingsx")).status == 404


async def test_without_the_setting_no_origin_may_call(served: Gateway) -> None:
    preflight = await send(served, "OPTIONS", CHAT, headers=PREFLIGHT)
    answer = await send(served, "GET", "/v1/models", headers={"origin": PAGE})
    assert (preflight.status, answer.status) == (405, 200)
    for headers in (preflight.headers, answer.headers):
        assert not [name for name in headers if name.startswith("access-control-")]


async def test_a_named_origin_may_call_and_reads_every_answer() -> None:
    async with scripted_gateway(ScriptedEngine(), cors_origins=(PAGE, "http://localhost:3000")) as gateway:
        preflight = await send(gateway, "OPTIONS", CHAT, headers=PREFLIGHT)
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert (
            preflight.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
        )
        assert "POST" in preflight.headers["access-control-allow-methods"].split(", ")
        for body, status in ((chat(), 200), (chat(stream=True), 200), (b"{", 400), (chat(model="x"), 404)):
            answer = await ask(gateway, body, origin=PAGE, content_type=JSON)
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["access-control-expose-headers"] == "*"
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("PUT", CHAT, 405),
            ("POST", "/v1/audio", 400),
        ):
            answer = await send(gateway, method, path, headers={"origin": PAGE})
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, PAGE)


async def test_a_500_of_our_own_is_readable_for_a_page_too() -> None:
    engine = ScriptedEngine(error=RuntimeError("secret"))
    async with scripted_gateway(engine, cors_origins=("*",)) as gateway:
        answer = await ask(gateway, origin=PAGE, content_type=JSON)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (500, "*")


async def test_another_origin_may_not_call() -> None:
    async with scripted_gateway(ScriptedEngine(), cors_origins=(PAGE,)) as gateway:
        headers = PREFLIGHT | {"origin": "https://evil.example.org"}
        preflight = await send(gateway, "OPTIONS", CHAT, headers=headers)
        answer = await ask(gateway, origin="https://evil.example.org")
    assert (preflight.status, answer.status) == (400, 403)
    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "Text/Plain; charset=utf-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ],
)
async def test_what_a_browser_sends_without_asking_is_refused(served: Gateway, kind: str) -> None:
    answer = await ask(served, content_type=kind)
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert answer.error["message"].startswith("content-type: got '")


@pytest.mark.parametrize(
    "kind", ["application/json", "application/vnd.api+json", "text/json", "x", "*/*", ";"]
)
async def test_an_odd_content_type_is_not(served: Gateway, kind: str) -> None:
    assert (await ask(served, content_type=kind)).status == 200


async def test_a_missing_content_type_is_refused_from_a_browser_alone(served: Gateway) -> None:
    assert (await ask(served)).status == 200
    own = {"origin": served.url, "sec_fetch_site": "same-origin"}
    assert (await ask(served, **own)).status == 415
    assert (await ask(served, **own, content_type=JSON)).status == 200


async def test_a_byte_order_mark_is_skipped(served: Gateway) -> None:
    assert (await ask(served, b"\xef\xbb\xbf" + orjson.dumps(chat()))).status == 200


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "GZIP"])
async def test_a_gzip_body_is_taken(served: Gateway, name: str) -> None:
    answer = await ask(served, gzip.compress(orjson.dumps(chat())), content_encoding=name)
    assert answer.status == 200


async def test_a_large_gzip_body_in_small_pieces_is_the_body() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway, httpx2.AsyncClient(trust_env=False) as client:
        # Spaces around the request's own text, more than any one slice or read holds.
        body = gzip.compress(orjson.dumps(chat()) + b" " * 1_000_000)

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(body), 7):
                yield body[at : at + 7]

        answer = await client.post(gateway.url + CHAT, content=pieces(), headers={"content-encoding": "gzip"})
        assert answer.status_code == 200


async def test_gzip_may_not_pass_the_limit_of_bodies() -> None:
    async with scripted_gateway(ScriptedEngine(), body_max_bytes=1000) as gateway:
        body = orjson.dumps(chat()).ljust(1001)
        assert (await ask(gateway, gzip.compress(body[:-1]), content_encoding="gzip")).status == 200
        answer = await ask(gateway, gzip.compress(body), content_encoding="gzip")
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


async def test_a_gzip_bomb_is_refused_at_a_megabyte_or_two(served: Gateway) -> None:
    bomb = gzip.compress(bytes(60_000_000))
    answer = await ask(served, bomb, content_encoding="gzip")
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert "the limit beyond 1048576 bytes is 20 for each" in answer.error["message"]


WHOLE = gzip.compress(orjson.dumps(chat()), mtime=0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        WHOLE[:-1],
        WHOLE[:20],
        WHOLE + b"x",
        WHOLE + WHOLE,
        zlib.compress(b"{}"),
        WHOLE[:-8] + bytes(8),
    ],
)
async def test_what_is_not_one_whole_gzip_is_refused(served: Gateway, body: bytes) -> None:
    answer = await ask(served, body, content_encoding="gzip")
    assert (answer.status, answer.error["code"]) == (400, "invalid_value")
    assert "gzip" in answer.error["message"]


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "identity, gzip"])
async def test_another_coding_is_refused_by_name(served: Gateway, coding: str) -> None:
    answer = await ask(served, content_encoding=coding)
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert f"got '{coding}'" in answer.error["message"]


async def test_a_stream_is_answered_to_a_gzip_body(served: Gateway) -> None:
    body = gzip.compress(orjson.dumps(chat(stream=True)))
    answer = await ask(served, body, content_encoding="gzip")
    assert len(answer.body.split(b"\n\n")) == len(await events(served)) + 1
