"""Pictures that were uploaded once and are named by their id, in every request that takes pictures."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.api.asking import MODEL, image, saying, sdk
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway
from tests.shapes import encoded

SQUARE = encoded("square", "blue")
ENGINE = ScriptedEngine()


@pytest.fixture(scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    async with scripted_gateway(ENGINE, image_max_bytes=100_000) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with sdk(gateway) as made:
        yield made


def part(**file: str) -> dict[str, Any]:
    return {"type": "file", "file": file}


async def upload(client: openai.AsyncOpenAI, content: bytes = SQUARE) -> str:
    return (await client.files.create(file=("x.png", content), purpose="vision")).id


async def ask(client: openai.AsyncOpenAI, *parts: dict[str, Any]) -> bytes:
    """Return the pixels of the picture that the engine saw last."""
    messages: Any = saying(*parts)
    await client.chat.completions.create(model=MODEL, messages=messages)
    return ENGINE.jobs[-1].pictures[-1].pixels.tobytes()


async def expected(client: openai.AsyncOpenAI) -> bytes:
    return await ask(client, image(f"data:image/png;base64,{base64.b64encode(SQUARE).decode()}"))


async def test_chat_sees_the_uploaded_picture(client: openai.AsyncOpenAI) -> None:
    assert await ask(client, part(file_id=await upload(client))) == await expected(client)


async def test_response_sees_the_uploaded_picture(client: openai.AsyncOpenAI) -> None:
    content: Any = [{"type": "input_image", "detail": "auto", "file_id": await upload(client)}]
    await client.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
    assert ENGINE.jobs[-1].pictures[0].pixels.tobytes() == await expected(client)


@pytest.mark.parametrize("kind", ["file_id", "file_data", "bare file_data"])
async def test_response_sees_the_picture_in_a_file_and_keeps_it(
    client: openai.AsyncOpenAI, kind: str
) -> None:
    data = base64.b64encode(SQUARE).decode()
    sources = {
        "file_id": {"file_id": await upload(client)},
        "file_data": {"file_data": f"data:image/png;base64,{data}", "filename": "x.png"},
        "bare file_data": {"file_data": data},
    }
    content: Any = [{"type": "input_file", **sources[kind]}]
    first = await client.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
    await client.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
    seen = [job.pictures[0].pixels.tobytes() for job in ENGINE.jobs[-2:]]
    assert seen == [await expected(client)] * 2


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:image/png;base64,"])
async def test_chat_sees_the_picture_in_a_file_part(client: openai.AsyncOpenAI, prefix: str) -> None:
    data = prefix + base64.b64encode(SQUARE).decode()
    assert await ask(client, part(file_data=data, filename="x.png")) == await expected(client)


async def test_anothers_file_is_told_as_one_that_is_not_there(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    file_id = await upload(client)
    async with sdk(gateway, api_key="sk-other") as other:
        await _refused(other, part(file_id=file_id), "file_id", f"no such file: {file_id}", "invalid_image")
    await client.files.delete(file_id)
    await _refused(client, part(file_id=file_id), "file_id", f"no such file: {file_id}", "invalid_image")


@pytest.mark.parametrize(
    ("content", "message", "code"),
    [
        (bytes(100_001), "the image has 100001 bytes; the limit is 100000", "image_too_large"),
        (b"%PDF-1.7", "this is a PDF; send a JPEG or PNG", "unsupported_image_format"),
        (b"", "the image is not a JPEG", "unsupported_image_format"),
    ],
)
async def test_file_that_is_no_picture_is_refused_where_it_is_used(
    client: openai.AsyncOpenAI, content: bytes, message: str, code: str
) -> None:
    await _refused(client, part(file_id=await upload(client, content)), "file_id", message, code)


@pytest.mark.parametrize("file", [{}, {"file_id": "file-1", "file_data": "aGk="}, {"filename": "x.png"}])
async def test_part_has_either_an_id_or_data(client: openai.AsyncOpenAI, file: dict[str, str]) -> None:
    with pytest.raises(openai.BadRequestError, match="exactly one of `file_id`, `file_data` is required"):
        await ask(client, part(**file))


async def _refused(
    client: openai.AsyncOpenAI, asked: dict[str, Any], field: str, message: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client, asked)
    param = f"messages[0].content[0].file.{field}"
    assert (caught.value.param, caught.value.code) == (param, code)
    assert f"{param}: " in caught.value.message
    assert message in caught.value.message
