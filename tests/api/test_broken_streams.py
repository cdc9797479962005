"""A stream that cannot go on says so, and never looks like a success."""

import httpx2
import openai
import orjson
import pytest

from gateway.errors import EngineNotReady, GenerationFailed
from tests.api.asking import chat, events, idle, sdk
from tests.api.wire import connected, post
from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway


async def test_engine_error_after_the_first_delta_is_one_error_event_and_no_done() -> None:
    async with scripted_gateway(ScriptedEngine(error=GenerationFailed("it died"), fails_at=2)) as gateway:
        *chunks, error = await events(gateway, stream_options={"include_usage": True})
        await idle(gateway)
    said = [orjson.loads(chunk)["choices"][0]["delta"]["content"] for chunk in chunks]
    assert said == ["", "A", " red"]
    assert orjson.loads(error) == {
        "error": {"message": "it died", "type": "server_error", "param": None, "code": "generation_failed"}
    }


async def test_engine_error_in_a_stream_is_the_sdks_api_error() -> None:
    engine = ScriptedEngine(error=EngineNotReady("it is started again"), fails_at=1)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        stream = await client.chat.completions.create(**chat(stream=True))
        said = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError) as caught:
            await anext(stream)
    assert said == ["", "A"]
    assert (caught.value.message, caught.value.code) == ("it is started again", "engine_not_ready")


async def test_unexpected_exception_in_a_stream_breaks_the_connection_before_its_end() -> None:
    engine = ScriptedEngine(error=RuntimeError("the password is secret"), fails_at=1)
    async with scripted_gateway(engine) as gateway:
        async with connected(gateway) as connection:
            await connection.send(post(chat(stream=True)))
            assert (await connection.head())[0] == 200
            rest = await connection.rest()
        await idle(gateway)
    assert rest.count(b"data: ") == 2
    assert b"[DONE]" not in rest
    assert b"secret" not in rest
    assert not rest.endswith(b"0\r\n\r\n")  # the chunk that ends a body


async def test_unexpected_exception_in_a_stream_is_an_exception_at_the_sdk() -> None:
    engine = ScriptedEngine(error=RuntimeError("oops"), fails_at=1)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        stream = await client.chat.completions.create(**chat(stream=True))
        for _ in range(2):
            await anext(stream)
        with pytest.raises((openai.APIError, httpx2.RemoteProtocolError)):
            await anext(stream)
