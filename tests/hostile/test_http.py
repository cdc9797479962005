"""Bytes that are hardly HTTP, or more of it than there should be."""

from tests.api.asking import chat
from tests.api.wire import CHAT, LIVE, connected, head, post
from tests.each import each
from tests.hostile.cases import outcome, serves
from tests.servers import Gateway

BODY = b'{"model": "llava-demo", "messages": [{"role": "user", "content": "x"}]}'
LENGTH = f"content-length: {len(BODY)}"
CASES: dict[str, tuple[bytes, int, str | None]] = {
    "mail": (b"EHLO there\r\n\r\n", 400, "invalid_http"),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid_http"),
    "HTTP/9.9": (b"GET /health/live HTTP/9.9\r\nhost: x\r\n\r\n", 400, "invalid_http"),
    "a method of its own": (b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n", 400, "invalid_http"),
    "a blank in a header's name": (head("GET", "/health/live", "a b: c"), 400, "invalid_http"),
    "NUL in a header": (head("GET", "/health/live", "a: b\0c"), 400, "invalid_http"),
    "no colon": (head("GET", "/health/live", "abc"), 400, "invalid_http"),
    "length twice": (head("POST", CHAT, LENGTH, "content-length: 1") + BODY, 400, "invalid_http"),
    "length and chunks": (
        head("POST", CHAT, LENGTH, "transfer-encoding: chunked") + BODY,
        400,
        "invalid_http",
    ),
    "negative length": (head("POST", CHAT, "content-length: -1"), 400, "invalid_http"),
    "length of no number": (head("POST", CHAT, "content-length: many"), 400, "invalid_http"),
    "length of 10^30": (head("POST", CHAT, f"content-length: {10**30}"), 400, "invalid_http"),
    "length of 10^18": (head("POST", CHAT, f"content-length: {10**18}"), 413, "request_too_large"),
    "chunk of no size": (head("POST", CHAT, "transfer-encoding: chunked") + b"zz\r\n", 400, "invalid_http"),
    "unknown coding": (head("POST", CHAT, "transfer-encoding: x, y") + BODY, 400, "invalid_http"),
    "101 headers": (head("GET", "/health/live", *["a: b"] * 101), 431, "headers_too_large"),
    "a header of 40 kB": (head("GET", "/health/live", "a: " + "b" * 40_000), 431, "headers_too_large"),
    "a path of 40 kB": (head("GET", "/" + "a" * 40_000), 431, "headers_too_large"),
    "a cookie of 40 kB": (head("GET", "/", "cookie: " + "b" * 40_000), 431, "headers_too_large"),
    "a path upwards": (head("GET", "/v1/../../etc/passwd"), 404, "not_found"),
    "a path upwards, encoded": (head("GET", "/v1/%2e%2e/%2e%2e/etc/passwd"), 404, "not_found"),
    "NUL in the path": (head("GET", "/v1/models/%00"), 404, "model_not_found"),
    "another host's URL": (head("GET", "http://169.254.169.254/latest/"), 404, "not_found"),
    "no body": (head("POST", CHAT, "content-length: 0"), 400, "invalid_json"),
    "expect": (head("POST", CHAT, LENGTH, "expect: nonsense") + BODY, 200, None),
    "a line break before": (b"\r\n" + LIVE, 200, None),
}


@each("name", CASES)
async def test_what_is_hardly_http_has_its_answer(attacked: Gateway, name: str) -> None:
    sent, status, code = CASES[name]
    async with connected(attacked) as connection:
        await connection.send(sent)
        answer = await connection.answer()
    assert (answer.status, outcome(answer)[1]) == (status, code), answer.body
    await serves(attacked)


async def test_fifty_requests_in_one_packet_have_fifty_answers_in_order(attacked: Gateway) -> None:
    async with connected(attacked) as connection:
        await connection.send((post(chat(n=99)) + LIVE) * 25)
        for _ in range(25):
            assert (await connection.answer()).status == 400
            assert (await connection.answer()).body == b'{"status":"live"}'
    await serves(attacked)
