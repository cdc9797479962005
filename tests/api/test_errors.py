"""Every error reaches OpenAI's client as the exception it knows, in OpenAI's shape, on every path."""

import logging
from typing import Any

import openai
import pytest

from gateway.errors import EngineNotReady, GatewayError, GenerationFailed, InvalidValue, Overloaded
from tests.api.asking import QUESTION, ask, chat, image, saying, sdk, send, without
from tests.api.wire import CHAT, connected, head, post
from tests.each import each
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

REFUSED: list[tuple[Any, str, str | None]] = [
    (b"{", "invalid_json", None),
    (b"", "invalid_json", None),
    (b"\xff\xfe", "invalid_json", None),
    (b'{"model": NaN}', "invalid_json", None),
    (b"[" * 5000, "invalid_json", None),
    ([], "invalid_json", None),
    ("text", "invalid_json", None),
    (7, "invalid_json", None),
    (b"null", "invalid_json", None),
    (b"true", "invalid_json", None),
    (without("messages"), "missing_required_parameter", "messages"),
    (chat(messages=[{"content": "x"}]), "missing_required_parameter", "messages[0].role"),
    (chat(messages=[]), "invalid_value", "messages"),
    (chat(messages="x"), "invalid_value", "messages"),
    (chat(messages=["x"]), "invalid_value", "messages[0]"),
    (chat(messages=[{"role": "king", "content": "x"}]), "invalid_value", "messages[0].role"),
    (chat(messages=[{"role": "function", "content": "x"}]), "unsupported_parameter", "messages[0].role"),
    (chat(messages=[{"role": "user", "content": 5}]), "invalid_value", "messages[0].content"),
    (chat(messages=saying({"type": "text"})), "missing_required_parameter", "messages[0].content[0].text"),
    (chat(messages=saying({"text": "x"})), "missing_required_parameter", "messages[0].content[0].type"),
    (
        chat(messages=saying({"type": "input_audio"})),
        "unsupported_parameter",
        "messages[0].content[0].type",
    ),
    (
        chat(messages=saying({"type": "image_url", "image_url": 5})),
        "invalid_value",
        "messages[0].content[0].image_url",
    ),
    (
        chat(messages=[QUESTION, {"role": "assistant", "content": "a", "tool_calls": [{}]}]),
        "missing_required_parameter",
        "messages[1].tool_calls[0].id",
    ),
    (
        chat(messages=[{"role": "system", "content": [image("http://x.org/")]}, QUESTION]),
        "invalid_value",
        "messages[0].content[0]",
    ),
    (chat(messages=saying(image("ftp://x.org/"))), "invalid_image", "messages[0].content[0].image_url.url"),
    (chat(colour="red"), "unknown_parameter", "colour"),
    (chat(**{"<text>": 1}), "unknown_parameter", "<text>"),
    (
        chat(messages=saying({"type": "text", "text": "x", "picture": "x"})),
        "unknown_parameter",
        "messages[0].content[0].picture",
    ),
    (chat(tools=[{"type": "function"}]), "missing_required_parameter", "tools[0].function"),
    (chat(messages=[{"role": "user", "content": "x" * 5000}]), "context_length_exceeded", "messages"),
    (chat(stream_options={"include_usage": True}), "invalid_value", "stream_options"),
    (chat(top_logprobs=2), "invalid_value", "top_logprobs"),
]


@each(("body", "code", "param"), REFUSED)
async def test_bad_requests_are_told_with_their_field(
    served: Gateway, body: Any, code: str, param: str | None
) -> None:
    answer = await ask(served, body)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    error = answer.error
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)


@pytest.mark.parametrize("stream", [False, True])
async def test_bad_request_is_the_sdks_bad_request_error(served: Gateway, stream: bool) -> None:
    async with sdk(served) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**chat(temperature=3, stream=stream))
    error = caught.value
    assert (error.status_code, error.code, error.param) == (400, "invalid_value", "temperature")
    assert error.type == "invalid_request_error"
    assert error.body == {
        "message": "temperature: input should be less than or equal to 2; got 3",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "invalid_value",
    }


async def test_wrong_model_is_the_sdks_not_found_error(served: Gateway) -> None:
    async with sdk(served) as client:
        with pytest.raises(openai.NotFoundError) as asked:
            await client.chat.completions.create(**chat(model="gpt-4o"))
        with pytest.raises(openai.NotFoundError) as looked_up:
            await client.models.retrieve("meta/other")
    for caught in (asked, looked_up):
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_too_large_a_body_is_the_sdks_413() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), body_max_bytes=1_000_000) as gateway,
        sdk(gateway) as client,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(
                model="llava-demo", messages=[{"role": "user", "content": "x" * 8_000_000}]
            )
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


UNAVAILABLE = [
    EngineNotReady("starting", retry_after=5),
    Overloaded("full"),
    Overloaded("later", retry_after=7),
]


@pytest.mark.parametrize("error", UNAVAILABLE)
@pytest.mark.parametrize("stream", [False, True])
async def test_unavailable_is_the_sdks_internal_server_error_with_retry_after(
    error: EngineNotReady | Overloaded, stream: bool
) -> None:
    async with scripted_gateway(ScriptedEngine(error=error)) as gateway, sdk(gateway) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(**chat(stream=stream))
    assert (caught.value.status_code, caught.value.code) == (503, error.code)
    assert caught.value.response.headers["retry-after"] == str(error.retry_after)


async def test_sdk_tries_again_what_was_unavailable() -> None:
    engine = ScriptedEngine(error=EngineNotReady("a moment", retry_after=0))
    async with scripted_gateway(engine) as gateway, sdk(gateway, max_retries=2) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(**chat())
    assert len(engine.jobs) == 3


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidValue("no", param="stop"), 400),
        (GenerationFailed("ended early"), 500),
        (GatewayError("x"), 500),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_engine_error_before_the_first_delta_is_an_http_status(
    error: GatewayError, status: int, stream: bool
) -> None:
    async with scripted_gateway(ScriptedEngine(error=error)) as gateway:
        answer = await ask(gateway, chat(stream=stream))
    assert answer.status == status
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    assert answer.error == told


async def test_engine_error_after_deltas_of_a_whole_answer_is_still_an_http_status() -> None:
    async with scripted_gateway(ScriptedEngine(error=GenerationFailed("died"), fails_at=2)) as gateway:
        answer = await ask(gateway)
    assert (answer.status, answer.error["code"]) == (500, "generation_failed")


@pytest.mark.parametrize("stream", [False, True])
async def test_unexpected_exception_is_a_500_that_leaks_nothing(stream: bool) -> None:
    engine = ScriptedEngine(error=RuntimeError("the password is secret"))
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, chat(stream=stream), x_request_id="mine")
    assert answer.status == 500
    assert answer.error == {
        "message": "internal error; see the gateway log",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["openai-processing-ms"].isdigit()


async def test_engine_that_says_nothing_is_a_500() -> None:
    async with scripted_gateway(ScriptedEngine(words=())) as gateway:
        answer = await ask(gateway)
    assert (answer.status, answer.error["code"]) == (500, "internal_error")


@each(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1", 404, "not_found"),
        ("POST", "/v1/complete", 404, "not_found"),
        ("POST", f"{CHAT}//", 404, "not_found"),
        ("GET", "/%00%0a%ff", 404, "not_found"),
        ("GET", f"/{'x' * 10_000}", 404, "not_found"),
        ("GET", "/v1/models/nothing", 404, "model_not_found"),
        ("GET", f"/v1/models/{'x' * 10_000}", 404, "model_not_found"),
        ("OPTIONS", CHAT, 405, "method_not_allowed"),
        ("PUT", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/health/ready", 405, "method_not_allowed"),
        ("POST", "/metrics", 405, "method_not_allowed"),
    ],
)
async def test_paths_and_methods_that_are_not_there_are_told_in_openais_shape(
    served: Gateway, method: str, path: str, status: int, code: str
) -> None:
    answer = await send(served, method, path)
    assert answer.status == status
    error = answer.error
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert len(error["message"]) < 300
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["openai-processing-ms"].isdigit()
    assert ("allow" in answer.headers) == (status == 405)


async def test_wrong_method_is_the_sdks_405(served: Gateway) -> None:
    async with sdk(served) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.put("/chat/completions", cast_to=object)
    assert (caught.value.status_code, caught.value.code) == (405, "method_not_allowed")


async def test_405_names_the_methods_there_are(served: Gateway) -> None:
    assert (await send(served, "PUT", CHAT)).headers["allow"] == "POST"


async def test_head_has_the_status_and_no_body(served: Gateway) -> None:
    async with connected(served) as connection:
        await connection.send(head("HEAD", "/nothing") + head("GET", "/health/live"))
        status, headers = await connection.head()
        assert (status, headers["content-type"]) == (404, "application/json")
        # What follows is the next answer at once, not a body.
        assert (await connection.answer()).body == b'{"status":"live"}'


async def test_no_host_header_makes_an_error(served: Gateway) -> None:
    async with connected(served) as connection:
        await connection.send(b"GET /health/nothing HTTP/1.1\r\nhost: [\r\n\r\n")
        assert (await connection.answer()).error["code"] == "not_found"


SANE = ["abc", "a", "x" * 128, "req_0.1:2-3", "01HZ"]
NOT_SANE = ["", "x" * 129, "a b", "a\tb", "é", '"><script>', "a,b", "a\xa0"]


@pytest.mark.parametrize("sent", SANE)
async def test_sane_request_id_is_kept(served: Gateway, sent: str) -> None:
    assert (await send(served, "GET", "/v1/models", headers={"x-request-id": sent})).headers[
        "x-request-id"
    ] == sent


@pytest.mark.parametrize("sent", NOT_SANE)
async def test_request_id_that_is_not_sane_is_replaced(served: Gateway, sent: str) -> None:
    async with connected(served) as connection:
        await connection.send(head("GET", "/v1/models", f"x-request-id: {sent}"))
        given = (await connection.answer()).headers["x-request-id"]
    assert given.startswith("req_")
    assert len(given) == len("req_") + 32


async def test_every_request_has_an_id_of_its_own(served: Gateway) -> None:
    ids = {(await send(served, "GET", "/health/live")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("request_", [chat(), chat(stream=True), chat(n=0), b"{"])
async def test_every_chat_answer_has_its_id_and_its_time(served: Gateway, request_: Any) -> None:
    answer = await ask(served, request_, x_request_id="mine")
    assert answer.headers["x-request-id"] == "mine"
    assert 0 <= int(answer.headers["openai-processing-ms"]) < 10_000


async def test_what_is_not_http_is_refused_and_the_connection_closed(
    served: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        async with connected(served) as connection:
            await connection.send(b"EHLO mail\r\n\r\n")
            assert (await connection.answer()).status == 400
            assert await connection.rest() == b""


async def test_length_told_twice_is_refused_and_the_connection_closed(served: Gateway) -> None:
    hidden = head("GET", "/metrics")
    for doubt in ("transfer-encoding: chunked", "content-length: 0", "content-length: 999"):
        async with connected(served) as connection:
            await connection.send(post(b"0\r\n\r\n" + hidden, doubt))
            assert (await connection.answer()).status == 400
            assert await connection.rest() == b""
