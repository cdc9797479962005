"""Pictures reach the engine in the client's order; none is fetched for a request that is refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from PIL import Image

from tests.api.asking import ask, chat, image, saying, text
from tests.images.pictures import encoded, url_of
from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import Gateway, scripted_gateway

COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}
LOCAL = ("127.0.0.1",)


class Site:
    """A server of pictures, each of one colour; it counts its hits and answers the first the latest."""

    def __init__(self) -> None:
        self.port = 0
        self.hits: list[str] = []

    def url(self, colour: str) -> str:
        return f"http://127.0.0.1:{self.port}/{colour}"

    async def picture(self, request: web.Request) -> web.Response:
        colour = request.match_info["colour"]
        self.hits.append(colour)
        await asyncio.sleep(0.3 / len(self.hits))
        return web.Response(body=encoded(Image.new("RGB", (20, 20), colour)))


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    running = Site()
    app = web.Application()
    app.router.add_get("/{colour}", running.picture)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        server = web.TCPSite(runner, "127.0.0.1", 0)
        await server.start()
        running.port = runner.addresses[0][1]
        yield running
    finally:
        await runner.cleanup()


def plain(colour: str) -> str:
    return url_of(Image.new("RGB", (10, 10), colour))


async def test_pictures_stand_where_the_client_put_them() -> None:
    engine = ScriptedEngine()
    async with site() as pictures, scripted_gateway(engine, fetch_allow=LOCAL) as gateway:
        parts = [
            image(pictures.url("red")),
            text("and"),
            image(plain("green")),
            image(pictures.url("blue")),
            text("?"),
        ]
        answer = await ask(gateway, chat(messages=saying(*parts)))
        assert answer.status == 200, answer.body
    (job,) = engine.jobs
    assert [picture.pixels.getpixel((9, 9)) for picture in job.pictures] == list(COLOURS.values())
    assert [picture.pixels.size for picture in job.pictures] == [(336, 336)] * 3
    assert len({picture.key for picture in job.pictures}) == 3

    slot = [MODEL.image_token]
    said = MODEL.vocabulary.encode
    assert job.token_ids == [
        MODEL.bos_token,
        *said("USER: "),
        *slot,
        *said("\nand\n"),
        *slot,
        *said("\n"),
        *slot,
        *said("\n?\nASSISTANT:"),
    ]


async def test_pictures_of_several_turns_keep_their_order() -> None:
    engine = ScriptedEngine()
    messages = [
        *saying(image(plain("blue")), text("What?")),
        {"role": "assistant", "content": "Blue."},
        *saying(text("And?"), image(plain("red"))),
    ]
    async with scripted_gateway(engine) as gateway:
        assert (await ask(gateway, chat(messages=messages))).status == 200
    (job,) = engine.jobs
    colours = [picture.pixels.getpixel((9, 9)) for picture in job.pictures]
    assert colours == [COLOURS["blue"], COLOURS["red"]]
    assert job.token_ids.count(MODEL.image_token) == 2


async def test_usage_counts_pictures_at_their_full_size() -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, chat(messages=saying(image(plain("red")))))
    prompt = 1 + len("USER: ") + MODEL.tokens_per_image + len("\nASSISTANT:")
    assert f'"prompt_tokens":{prompt},' in answer.body.decode()


BAD = [
    ("data:image/png;base64,AAAA", "unsupported_image_format"),
    ("data:image/png;base64,!", "invalid_image"),
    ("data:image/png,AAAA", "invalid_image"),
    ("no url", "invalid_image"),
    ("http://127.0.0.1:1/x.png", "image_fetch_failed"),
    (plain("red")[:-60], "invalid_image"),
    (url_of(Image.new("RGB", (3000, 3000))), "image_too_large"),
    ("data:image/png;base64," + "A" * 20_000, "image_too_large"),
]


@pytest.mark.parametrize(("url", "code"), BAD)
async def test_bad_picture_is_named_by_its_place(url: str, code: str) -> None:
    engine = ScriptedEngine()
    messages = [*saying(text("x")), *saying(text("y"), image(plain("red")), image(url))]
    async with scripted_gateway(engine, image_max_pixels=10**6, image_max_bytes=14_000) as gateway:
        answer = await ask(gateway, chat(messages=messages))
    param = "messages[1].content[2].image_url.url"
    assert answer.status == 400
    error = answer.error
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"].startswith(f"{param}: ")
    assert len(error["message"]) < 300
    assert engine.jobs == []


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "other"}, 404, "model_not_found", "model"),
        ({"min_tokens": 2048}, 400, "invalid_value", "min_tokens"),
        ({"min_tokens": 9, "max_tokens": 8}, 400, "invalid_value", "min_tokens"),
        ({"top_logprobs": 1}, 400, "invalid_value", "top_logprobs"),
        ({"logit_bias": {"x": 1}}, 400, "invalid_value", "logit_bias.x"),
        ({"stop_token_ids": [5000]}, 400, "invalid_value", "stop_token_ids[0]"),
        ({"audio": {"voice": "x"}}, 400, "unsupported_parameter", "audio"),
    ],
)
async def test_nothing_is_fetched_for_a_request_that_is_refused(
    fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    async with site() as pictures, scripted_gateway(ScriptedEngine(), fetch_allow=LOCAL) as gateway:
        messages = saying(image(pictures.url("red")))
        answer = await ask(gateway, chat(messages=messages, **fields))
        assert (answer.status, answer.error["code"], answer.error["param"]) == (status, code, param)
        assert pictures.hits == []
        assert (await ask(gateway, chat(messages=messages))).status == 200
        assert pictures.hits == ["red"]


FULL = "This model's maximum context length is 2048 tokens."  # which clients look for


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # `<s>`, 64 for the picture, the style's words and these: one more than the context.
        ("x" * (2048 - 1 - 64 - len("USER: \n\nASSISTANT:")), "messages: the prompt has 2048 tokens and "),
        ("x" * 100_000, "messages: the prompt has at least "),
    ],
)
async def test_nothing_is_fetched_for_a_prompt_that_does_not_fit(words: str, message: str) -> None:
    async with site() as pictures, scripted_gateway(ScriptedEngine(), fetch_allow=LOCAL) as gateway:
        messages = saying(image(pictures.url("red")), text(words))
        answer = await ask(gateway, chat(messages=messages))
        assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
        assert answer.error["message"].startswith(f"{FULL} {message}")
        assert pictures.hits == []
        if len(words) < 2048:
            messages = saying(image(pictures.url("red")), text(words[1:]))
            assert (await ask(gateway, chat(messages=messages))).status == 200


async def test_more_pictures_than_allowed_are_refused_unfetched() -> None:
    async with (
        site() as pictures,
        scripted_gateway(
            ScriptedEngine(), fetch_allow=LOCAL, max_images=2, image_history="strict"
        ) as gateway,
    ):
        parts = [image(pictures.url("red")) for _ in range(3)]
        messages = [*saying(*parts[:2]), *saying(parts[2])]
        answer = await ask(gateway, chat(messages=messages, image_history="strict"))
        assert answer.status == 400
        assert answer.error == {
            "message": "messages: the request has 3 images; the limit is 2; "
            "leave some out, or set `image_history` to `keep_last`",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "too_many_images",
        }
        assert pictures.hits == []
        assert (await ask(gateway, chat(messages=saying(*parts[:2])))).status == 200


async def test_one_bad_picture_ends_the_fetching_of_the_others() -> None:
    async with site() as pictures, scripted_gateway(ScriptedEngine(), fetch_allow=LOCAL) as gateway:
        parts = [image(pictures.url("red")), image(pictures.url("no-colour")), image("data:;base64,")]
        answer = await ask(gateway, chat(messages=saying(*parts)))
    assert (answer.status, answer.error["param"]) == (400, "messages[0].content[2].image_url.url")


FLAG = Image.new("RGB", (200, 100), "white")
FLAG.paste((0, 0, 255), (0, 0, 40, 100))  # what a crop to a square loses
MEAN, WHITE, BLUE = (122, 116, 104), (255, 255, 255), (0, 0, 255)


@pytest.mark.parametrize(
    ("fields", "setting", "top", "left"),
    [
        ({}, None, MEAN, BLUE),  # the profile's, which is `pad`
        ({"image_fit": "pad"}, "crop", MEAN, BLUE),
        ({"image_fit": "crop"}, None, WHITE, WHITE),
        ({"image_fit": "squash"}, None, WHITE, BLUE),
        ({}, "squash", WHITE, BLUE),
        ({"image_fit": None}, "crop", WHITE, WHITE),
    ],
)
async def test_image_fit_is_the_requests_or_the_settings_or_the_profiles(
    fields: dict[str, Any], setting: Any, top: Any, left: Any
) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine, image_fit=setting) as gateway:
        answer = await ask(gateway, chat(messages=saying(image(url_of(FLAG))), **fields))
        assert answer.status == 200, answer.body
    pixels = engine.jobs[0].pictures[0].pixels
    assert pixels.getpixel((168, 5)) == top
    assert pixels.getpixel((5, 168)) == left


async def test_callers_meet_in_no_cache() -> None:
    engine = ScriptedEngine()
    body = chat(messages=saying(image(plain("red"))))
    async with scripted_gateway(engine) as gateway:
        for caller in ("Bearer a", "Bearer b", "Bearer a"):
            assert (await ask(gateway, body, authorization=caller)).status == 200
    keys = [job.pictures[0].key for job in engine.jobs]
    assert keys[0] == keys[2] != keys[1]


def long_chat(turns: int) -> list[dict[str, Any]]:
    """Return a conversation with a picture in each turn, of which none but the last seven can be fetched."""
    messages: list[dict[str, Any]] = []
    for turn in range(turns):
        messages += saying(
            image(f"http://127.0.0.1:1/{turn}" if turn < turns - 7 else plain("red")), text("?")
        )
        messages.append({"role": "assistant", "content": "Red."})
    return messages[:-1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_chat_goes_on_and_is_told_what_was_left_out(served: Gateway, stream: bool) -> None:
    body = chat(messages=long_chat(20), stream=stream) | (
        {"stream_options": {"include_usage": True}} if stream else {}
    )
    answer = await ask(served, body)
    assert answer.status == 200, answer.body
    assert answer.headers["x-gateway-dropped-images"] == "13"
    usage = orjson.loads(answer.body.split(b"\n\n")[-3][6:] if stream else answer.body)["usage"]
    assert usage["prompt_tokens_details"]["dropped_images"] == 13


async def test_a_chat_that_fits_is_told_nothing(served: Gateway) -> None:
    answer = await ask(served, chat(messages=long_chat(7)))
    assert answer.status == 200
    assert "x-gateway-dropped-images" not in answer.headers
    assert b"dropped_images" not in answer.body


async def test_a_long_chat_is_refused_where_the_request_or_the_settings_are_strict(served: Gateway) -> None:
    answer = await ask(served, chat(messages=long_chat(8), image_history="strict"))
    assert (answer.status, answer.error["code"]) == (400, "too_many_images")
    async with scripted_gateway(ScriptedEngine(), image_history="strict") as gateway:
        assert (await ask(gateway, chat(messages=long_chat(8)))).error["code"] == "too_many_images"
        assert (await ask(gateway, chat(messages=long_chat(8), image_history="keep_last"))).status == 200


@pytest.mark.parametrize(("fields", "dropped"), [({}, 1), ({"max_tokens": 16}, 0)])
async def test_pictures_leave_room_for_the_answer_that_is_asked_for(
    served: Gateway, fields: dict[str, Any], dropped: int
) -> None:
    """Both pictures and the text leave about 170 of the context's 2048 tokens."""
    messages = [*long_chat(1), {"role": "assistant", "content": "Red."}]
    messages += saying(image(plain("red")), text("x" * 1700))
    answer = await ask(served, chat(messages=messages, **fields))
    assert answer.status == 200, answer.body
    assert answer.headers.get("x-gateway-dropped-images", "0") == str(dropped)
