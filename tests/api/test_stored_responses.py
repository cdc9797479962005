"""What is stored of a response: it is continued, fetched, listed and deleted, by its caller alone."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from openai import AsyncOpenAI
from openai.types.responses.response_item_list import ResponseItemList

from tests import openai_types
from tests.api.asking import MODEL, idle, sdk, send
from tests.api.test_responses import ask, asked, prompt_of, streamed
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway
from tests.shapes import data_url
from tests.snippets import python


@pytest.fixture(scope="module")
async def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture(scope="module")
async def gateway(engine: ScriptedEngine) -> AsyncIterator[Gateway]:
    async with scripted_gateway(engine) as running:
        yield running


@pytest.fixture(scope="module")
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with sdk(gateway) as opened:
        yield opened


def looking(url: str, question: str = "What is it?") -> list[Any]:
    parts = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": question}]
    return [{"role": "user", "content": parts}]


def parts_of(item: Any) -> Any:
    return item.content


async def test_stored_response_is_the_one_that_was_answered(client: AsyncOpenAI) -> None:
    made = await client.responses.create(**asked(metadata={"a": "b"}))
    assert made.store is True
    assert await client.responses.retrieve(made.id) == made


async def test_streamed_response_is_stored_when_its_end_is_told(
    gateway: Gateway, client: AsyncOpenAI
) -> None:
    *_, last = await streamed(gateway)
    assert last.response.store is True
    # Another caller's: `streamed` sends no key.
    answer = await send(gateway, "GET", f"/v1/responses/{last.response.id}")
    assert openai_types.response(answer.body) == last.response
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(last.response.id)


async def test_conversation_goes_on_with_its_picture(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    url = data_url("star", "red", side=8)
    first = await client.responses.create(model=MODEL, input=looking(url), instructions="Be brief.")
    second = await client.responses.create(model=MODEL, input="What colour?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    # The first one's instructions are not carried over.
    said = "USER: <image>\nWhat is it?\nASSISTANT: A red circle.</s>USER: What colour?\nASSISTANT:"
    assert prompt_of(engine) == said
    assert [picture.key for picture in engine.jobs[-1].pictures] == [engine.jobs[-2].pictures[0].key]
    await client.responses.create(
        model=MODEL, input="Sure?", previous_response_id=second.id, instructions="S"
    )
    assert prompt_of(engine) == f"S\n{said} A red circle.</s>USER: Sure?\nASSISTANT:"


async def test_conversation_branches(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    first = await client.responses.create(model=MODEL, input="a?")
    for question in ("b?", "c?"):
        await client.responses.create(model=MODEL, input=question, previous_response_id=first.id)
        assert prompt_of(engine) == f"USER: a?\nASSISTANT: A red circle.</s>USER: {question}\nASSISTANT:"


async def test_response_that_is_not_stored_is_not_found(client: AsyncOpenAI) -> None:
    made = await client.responses.create(**asked(store=False))
    assert made.store is False
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(**asked(previous_response_id=made.id))
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_items_are_listed_as_the_sdk_expects_them(client: AsyncOpenAI) -> None:
    url = data_url("star", "red", side=8)
    call: Any = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    output: Any = {"type": "function_call_output", "call_id": "call_1", "output": "4"}
    first = await client.responses.create(model=MODEL, input=[*looking(url), call, output])
    second = await client.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
    page = await client.responses.input_items.list(second.id, order="asc")
    kinds = ["message", "function_call", "function_call_output", "message", "message"]
    assert [item.type for item in page.data] == kinds
    assert [getattr(item, "role", None) for item in page.data] == ["user", None, None, "assistant", "user"]
    assert page.data[3].id == first.output[0].id
    assert parts_of(page.data[0])[0].image_url is None
    page = await client.responses.input_items.list(
        second.id, order="asc", include=["message.input_image.image_url"]
    )
    assert parts_of(page.data[0])[0].image_url == url


async def test_items_come_in_pages(gateway: Gateway, client: AsyncOpenAI) -> None:
    items: list[Any] = [{"role": "user", "content": str(number)} for number in range(5)]
    made = await client.responses.create(model=MODEL, input=items)
    found = [item async for item in client.responses.input_items.list(made.id, limit=2)]
    texts = [parts_of(item)[0].text for item in found]
    assert texts == ["4", "3", "2", "1", "0"]
    path = f"/v1/responses/{made.id}/input_items"
    headers = {"authorization": "Bearer sk-secret"}
    answer = await send(gateway, "GET", f"{path}?limit=2&order=asc", headers=headers)
    page = ResponseItemList.model_validate_json(answer.body, strict=True)
    assert (page.has_more, page.first_id, page.last_id) == (True, found[4].id, found[3].id)
    for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("x=1", "x")):
        answer = await send(gateway, "GET", f"{path}?{query}", headers=headers)
        assert (answer.status, answer.error["param"]) == (400, param)
    answer = await send(gateway, "GET", f"{path}?after=msg_0", headers=headers)
    assert (answer.status, answer.error["param"]) == (400, "after")


async def test_item_is_sent_again_by_its_id(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    """So does the AI SDK."""
    url = data_url("star", "red", side=8)
    first = await client.responses.create(model=MODEL, input=looking(url))
    (asked_first,) = (await client.responses.input_items.list(first.id)).data
    items: list[Any] = [
        {"type": "item_reference", "id": asked_first.id},
        {"id": first.output[0].id},
        {"role": "user", "content": "And?"},
    ]
    second = await client.responses.create(model=MODEL, input=items)
    assert prompt_of(engine) == (
        "USER: <image>\nWhat is it?\nASSISTANT: A red circle.</s>USER: And?\nASSISTANT:"
    )
    listed = (await client.responses.input_items.list(second.id, order="asc")).data
    assert [item.id for item in listed[:2]] == [asked_first.id, first.output[0].id]
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=MODEL, input=[{"type": "item_reference", "id": "msg_0"}])
    assert caught.value.param == "input[0].id"


async def test_deleted_response_is_gone(gateway: Gateway, client: AsyncOpenAI) -> None:
    made = await client.responses.create(**asked())
    headers = {"authorization": "Bearer sk-secret"}
    answer = await send(gateway, "DELETE", f"/v1/responses/{made.id}", headers=headers)
    assert orjson.loads(answer.body) == {"id": made.id, "object": "response", "deleted": True}
    for refused in (
        client.responses.retrieve(made.id),
        client.responses.delete(made.id),
        client.responses.cancel(made.id),
        client.responses.input_items.list(made.id),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            await refused
        assert made.id in caught.value.message


async def test_only_a_response_in_the_background_could_be_cancelled(client: AsyncOpenAI) -> None:
    made = await client.responses.create(**asked())
    with pytest.raises(openai.BadRequestError, match="was not created with `background`"):
        await client.responses.cancel(made.id)


async def test_stored_response_is_not_streamed(client: AsyncOpenAI) -> None:
    made = await client.responses.create(**asked())
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.retrieve(made.id, stream=True)
    assert caught.value.param == "stream"


async def test_conversations_are_not_compacted(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.compact(model=MODEL, input="x")
    assert caught.value.code == "unsupported_endpoint"


async def test_without_a_state_directory_responses_are_answered_and_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path / "file" / "state") as gateway:
        for stream in (False, True):
            answer = await ask(gateway, stream=stream)
            assert answer.status == 200
            assert answer.body.count(b'"store":false') == (3 if stream else 1)
        answer = await ask(gateway, store=True)
        assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
        answer = await ask(gateway, previous_response_id="resp_0")
        assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")


async def test_response_that_cannot_be_stored_at_its_end_says_so(tmp_path: Path) -> None:
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path, state_max_bytes=200_000) as gateway:
        image = data_url("star", "red", form="bmp")  # of 450 kB in base64
        answer = await ask(gateway, input=looking(image))
    assert answer.status == 200
    assert orjson.loads(answer.body)["store"] is False


async def test_conversation_of_too_many_bytes_is_refused() -> None:
    image = data_url("star", "red", form="bmp")
    async with scripted_gateway(ScriptedEngine(), body_max_bytes=800_000) as gateway:
        first = orjson.loads((await ask(gateway, input=looking(image))).body)
        second = await ask(gateway, input=looking(image), previous_response_id=first["id"])
        assert second.status == 200
        third = await ask(gateway, previous_response_id=orjson.loads(second.body)["id"])
    assert (third.status, third.error["param"]) == (400, "previous_response_id")
    assert "the limit is 800000" in third.error["message"]


async def test_long_conversation_keeps_its_newest_pictures(
    engine: ScriptedEngine, client: AsyncOpenAI
) -> None:
    previous: str | None = None
    for number in range(9):
        url = data_url("star", "red", side=8 + number)
        made = await client.responses.create(model=MODEL, input=looking(url), previous_response_id=previous)
        previous = made.id
    assert prompt_of(engine).count("<image>") == 7
    assert "USER: [image 1 left out]\nWhat is it?" in prompt_of(engine)


async def test_storage_that_comes_back_is_used_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.touch()  # a file, where a directory should be
    async with scripted_gateway(ScriptedEngine(), state_dir=state) as gateway:
        assert orjson.loads((await ask(gateway)).body)["store"] is False
        state.unlink()
        assert orjson.loads((await ask(gateway)).body)["store"] is True


async def test_response_whose_client_left_is_not_stored() -> None:
    async with (
        scripted_gateway(ScriptedEngine((" A",) * 1000, pause=0.02)) as gateway,
        sdk(gateway) as client,
    ):
        stream = await client.responses.create(**asked(stream=True))
        response_id = (await anext(aiter(stream))).response.id
        await stream.close()
        await idle(gateway)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(response_id)


async def test_the_example_in_the_docs_runs(gateway: Gateway, engine: ScriptedEngine) -> None:
    page = (Path(__file__).parents[2] / "docs/responses.md").read_text(encoding="utf-8")
    (program,) = python(page)
    program = program.replace("http://127.0.0.1:8000", gateway.url)
    program = program.replace("https://example.org/cat.jpg", data_url("star", "red", side=8))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output == b"A red circle.\n"
    assert prompt_of(engine).startswith("USER: <image>\nWhat is in the image?\nASSISTANT: A red circle.</s>")


async def test_input_tokens_are_counted_as_an_answer_would(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model=MODEL, input=looking(data_url("star", "red", side=8)))
    fields: dict[str, Any] = {"model": MODEL, "input": "And?", "previous_response_id": first.id}
    fields["instructions"] = "Be brief."
    counted = await client.responses.input_tokens.count(**fields)
    second = await client.responses.create(**fields)
    assert second.usage is not None
    assert counted.input_tokens == second.usage.input_tokens
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.input_tokens.count(model=MODEL, input=[{"type": "item_reference", "id": "x"}])
    assert caught.value.param == "input[0].id"
