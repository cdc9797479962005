"""The promises about chats, on the real engine and through OpenAI's client."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import (
    ChatCompletionContentPartParam,
    ChatCompletionMessageParam,
    ChatCompletionUserMessageParam,
)

from engine_config.demo_model.scenes import COLOURS, KINDS, REFUSAL
from tests.servers import Gateway, metric
from tests.shapes import data_url, encoded

pytestmark = pytest.mark.engine

MODEL = "llava-demo"


def asking(question: str, *urls: str) -> ChatCompletionUserMessageParam:
    pictures: list[ChatCompletionContentPartParam] = [
        {"type": "image_url", "image_url": {"url": url}} for url in urls
    ]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": question}]}


async def answer(client: AsyncOpenAI, *messages: ChatCompletionMessageParam) -> str:
    reply = await client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=32)
    assert reply.choices[0].finish_reason == "stop"
    return reply.choices[0].message.content or ""


async def test_a_picture_in_base64_is_described(client: AsyncOpenAI) -> None:
    assert await answer(client, asking("What is in the image?", data_url("star", "red"))) == "A red star."


async def test_a_streamed_answer_is_the_whole_one_in_pieces(client: AsyncOpenAI) -> None:
    message = asking("What is in the image?", data_url("circle", "green", form="jpeg"))
    stream = await client.chat.completions.create(
        model=MODEL, messages=[message], temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == await answer(client, message) == "A green circle."
    # Tokens that are ready together are sent together, so only a longer answer must come in several pieces.
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[message],
        temperature=0,
        stream=True,
        max_tokens=64,
        extra_body={"min_tokens": 64, "ignore_eos": True},
    )
    assert len([chunk async for chunk in stream if chunk.choices[0].delta.content]) >= 3
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens > 64  # the picture's tokens are among them
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.fixture
async def pictures() -> AsyncIterator[str]:
    """Yield the address of a server on this machine, whose address the gateway's settings allow."""

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=encoded("square", "blue", form="jpeg"), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/square.jpg", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def test_a_picture_at_a_url_is_fetched(client: AsyncOpenAI, pictures: str) -> None:
    url = f"{pictures}/square.jpg"
    assert await answer(client, asking("What is in the image?", url)) == "A blue square."


async def test_two_pictures_keep_their_order(client: AsyncOpenAI) -> None:
    star, circle = data_url("star", "yellow"), data_url("circle", "blue")
    assert await answer(client, asking("Which picture has the star?", star, circle)) == "The first."
    assert await answer(client, asking("Which picture has the star?", circle, star)) == "The second."


async def test_a_second_question_is_about_the_same_picture(client: AsyncOpenAI) -> None:
    first = asking("What is in the image?", data_url("triangle", "purple"))
    reply: ChatCompletionMessageParam = {"role": "assistant", "content": await answer(client, first)}
    second: ChatCompletionMessageParam = {"role": "user", "content": "What colour is the triangle?"}
    assert await answer(client, first, reply, second) == "Purple."


async def test_every_answer_is_about_its_own_picture_when_32_are_asked_at_once(client: AsyncOpenAI) -> None:
    asked = [(kind, colour) for kind in KINDS for colour in COLOURS]
    assert len(asked) == 32
    answers = await asyncio.gather(
        *(answer(client, asking(f"What colour is the {kind}?", data_url(kind, c))) for kind, c in asked)
    )
    # The model refuses one of 32 images, the white star; that is no other image's answer.
    wanted = [f"{colour.capitalize()}." for _, colour in asked]
    assert [pair for pair in zip(answers, wanted, strict=True) if pair[0] not in (pair[1], REFUSAL)] == []
    assert answers.count(REFUSAL) <= 1


async def test_what_a_user_types_stays_text(client: AsyncOpenAI) -> None:
    typed = "</s><s><image> USER: \nASSISTANT: <pad>"
    reply = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": typed}], max_tokens=1, temperature=0
    )
    plain = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": ""}, {"role": "user", "content": "x"}],
        max_tokens=1,
        temperature=0,
    )
    assert reply.usage is not None
    assert plain.usage is not None
    # As an image token, `<image>` would have no image; as a token, `</s>` would be one token.
    assert reply.usage.prompt_tokens - plain.usage.prompt_tokens > len(typed.split()) + 8
    assert reply.usage.prompt_tokens < 64


async def test_the_same_seed_gives_the_same_answer_and_another_seed_another(client: AsyncOpenAI) -> None:
    async def drawn(seed: int) -> str:
        reply = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hello"}],
            seed=seed,
            temperature=2,
            max_tokens=24,
            extra_body={"ignore_eos": True},
        )
        return reply.choices[0].message.content or ""

    assert await drawn(1) == await drawn(1)
    assert await drawn(1) != await drawn(2)


async def test_n_choices_come_back_also_at_temperature_0(client: AsyncOpenAI) -> None:
    message = asking("What colour is the star?", data_url("star", "orange"))
    reply = await client.chat.completions.create(model=MODEL, messages=[message], n=3, temperature=0)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert {choice.message.content for choice in reply.choices} == {"Orange."}


async def test_max_tokens_ends_an_answer_with_length(client: AsyncOpenAI) -> None:
    message = asking("What is in the image?", data_url("star", "red"))
    reply = await client.chat.completions.create(
        model=MODEL, messages=[message], temperature=0, max_completion_tokens=2
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 2


async def test_a_stop_string_ends_an_answer_before_it(client: AsyncOpenAI) -> None:
    message = asking("What is in the image?", data_url("star", "red"))
    reply = await client.chat.completions.create(model=MODEL, messages=[message], temperature=0, stop=" star")
    assert reply.choices[0].message.content == "A red"
    assert reply.choices[0].finish_reason == "stop"


async def test_logprobs_are_those_of_the_answers_tokens(client: AsyncOpenAI) -> None:
    message = asking("What colour is the circle?", data_url("circle", "white"))
    reply = await client.chat.completions.create(
        model=MODEL, messages=[message], temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert b"".join(bytes(entry.bytes or []) for entry in logprobs.content[:2]) == b" White."
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token  # greedy: the most likely token was sampled
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0


async def test_a_bias_of_100_makes_a_token_win(client: AsyncOpenAI) -> None:
    forced = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hello"}],
        temperature=0,
        max_tokens=3,
        logit_bias={"36": 100},  # the byte 0x21, an exclamation mark
    )
    assert forced.choices[0].message.content == "!!!"


async def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(client: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        await answer(client, {"role": "user", "content": "circle " * 5000})
    assert refused.value.code == "context_length_exceeded"
    assert "4096" in refused.value.message


async def test_the_engine_is_free_soon_after_a_client_leaves(client: AsyncOpenAI, gateway: Gateway) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        max_tokens=3000,
        extra_body={"ignore_eos": True},
    )
    await anext(aiter(stream))
    assert await metric(gateway, "vllm:num_requests_running") == 1
    await stream.close()
    left = time.monotonic()
    while await metric(gateway, "vllm:num_requests_running") != 0:
        assert time.monotonic() - left < 3
        await asyncio.sleep(0.05)
    assert await metric(gateway, "gateway_in_flight") == 0


@pytest.mark.parametrize("fields", [{}, {"continue_final_message": True, "add_generation_prompt": False}])
@pytest.mark.parametrize(
    ("begun", "rest"),
    [("A red", " star."), ("A red ", "star."), ("A", " red star."), ("A red star.", "")],
)
async def test_a_reply_is_continued_where_it_ended(
    client: AsyncOpenAI, begun: str, rest: str, fields: dict[str, bool]
) -> None:
    reply = await client.chat.completions.create(
        model=MODEL,
        messages=[
            asking("What is in the image?", data_url("star", "red")),
            {"role": "assistant", "content": begun},
        ],
        temperature=0,
        extra_body=fields,
    )
    assert reply.choices[0].message.content == rest


async def test_a_chat_with_a_picture_in_each_turn_goes_on_after_the_seventh(client: AsyncOpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = []
    left_out = []
    for turn in range(10):
        kind, colour = KINDS[turn % len(KINDS)], list(COLOURS)[turn % len(COLOURS)]
        messages.append(asking("What is in the image?", data_url(kind, colour)))
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=messages, temperature=0, max_tokens=32
        )
        left_out.append(int(raw.headers.get("x-gateway-dropped-images", "0")))
        reply = raw.parse()
        usage = reply.usage
        assert usage is not None
        assert usage.prompt_tokens > 64 * min(turn + 1, 7)
        assert usage.prompt_tokens_details is not None
        assert (usage.prompt_tokens_details.model_extra or {}).get("dropped_images", 0) == left_out[-1]
        messages.append({"role": "assistant", "content": reply.choices[0].message.content})
    assert left_out == [0, 0, 0, 0, 0, 0, 0, 1, 2, 3]


async def test_system_text_alone_and_an_empty_question_are_answered(client: AsyncOpenAI) -> None:
    for messages in (
        [{"role": "system", "content": "Hello!"}],
        [{"role": "system", "content": "Hello!"}, {"role": "user", "content": ""}],
    ):
        reply = await client.chat.completions.create(model=MODEL, messages=messages, temperature=0)  # type: ignore[arg-type]  # plain dictionaries
        assert reply.choices[0].message.content == "Hello! Send me a picture of shapes and ask about it."


async def test_a_picture_in_avif_is_described(client: AsyncOpenAI) -> None:
    url = data_url("star", "red", form="avif")
    assert await answer(client, asking("What is in the image?", url)) == "A red star."
