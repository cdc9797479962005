"""Memory is held before it is taken: where a budget is one KiB short of what a request needs, it is a 503."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from math import ceil
from typing import Any

import orjson
import pytest
from PIL import Image

from gateway.access.callers import Caller
from gateway.access.fair_semaphore import FairSemaphore
from gateway.access.keys import CallerClass
from gateway.access.memory_budgets import MemoryBudgets
from tests.api.asking import chat, image, saying, send
from tests.api.wire import CHAT, Answer
from tests.each import each
from tests.images.pictures import data_url, encoded, noisy, url_of
from tests.images.test_heic import heic
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway, until
from tools.bench.hostile import large_files

MIB = 2**20
HOLDER = Caller("holder", "holder", CallerClass())
BODY_MAX, FILE = 2 * MIB, 100_000
SIDE = 300  # pixels

Send = Callable[[Gateway], Awaitable[Answer]]


@pytest.fixture(scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    engine = ScriptedEngine()
    async with scripted_gateway(
        engine, max_wait=0.2, body_max_bytes=BODY_MAX, fetch_allow=("127.0.0.1/32",), image_cache_bytes=0
    ) as running:
        yield running


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with large_files(FILE) as url:
        yield url


def budget(gateway: Gateway, kind: str) -> FairSemaphore:
    assert gateway.app is not None
    memory: MemoryBudgets = gateway.app.state.loader._memory
    shares: FairSemaphore = getattr(memory, f"_{kind}")
    return shares


@asynccontextmanager
async def only(gateway: Gateway, kind: str, left: int) -> AsyncIterator[None]:
    """Hold all of a budget but `left` KiB."""
    shares = budget(gateway, kind)
    holding = await shares.take(HOLDER, shares.total - left)
    yield
    holding.release()


def kib(size: float) -> int:
    return ceil(size / 1024)


async def needs(gateway: Gateway, kind: str, size: int, ask: Send) -> None:
    """Expect that `ask` needs `size` KiB, no more and no less."""
    async with only(gateway, kind, size - 1):
        refused = await ask(gateway)
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    async with only(gateway, kind, size):
        assert (await ask(gateway)).status == 200
    await until(lambda: budget(gateway, kind).taken == 0, 2)  # given back once all is sent


async def needs_some(gateway: Gateway, kind: str, ask: Send) -> None:
    async with only(gateway, kind, 0):
        refused = await ask(gateway)
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    assert (await ask(gateway)).status == 200


def posts(content: Any, path: str = CHAT) -> Send:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return lambda gateway: send(gateway, "POST", path, content=body)


def shows(url: str, path: str = CHAT) -> Send:
    return posts(chat(messages=saying(image(url))), path)


# Bodies


@pytest.mark.parametrize("path", [CHAT, "/tokenize", "/v1/chat/completions/render"])
async def test_a_body_takes_twice_its_size(gateway: Gateway, path: str) -> None:
    body = orjson.dumps({"model": "llava-demo", "messages": [{"role": "user", "content": "x"}]})
    await needs(gateway, "bodies", kib(2 * FILE), posts(body.ljust(FILE), path))


async def test_a_body_of_unknown_length_takes_as_much_as_the_longest(gateway: Gateway) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield orjson.dumps(chat())

    await needs(
        gateway,
        "bodies",
        kib(2 * BODY_MAX),
        lambda gateway: send(gateway, "POST", CHAT, content=chunks()),
    )


# Log probabilities


async def test_log_probabilities_take_320_bytes_each_and_so_does_each_token(gateway: Gateway) -> None:
    asked = chat(logprobs=True, top_logprobs=20, n=16, max_tokens=100)
    await needs(gateway, "bodies", kib(320 * 16 * 100 * 22), posts(asked))


async def test_so_do_those_of_prompts_that_are_told_again(gateway: Gateway) -> None:
    prompts = ["x" * 400, "x" * 600]  # of as many tokens, after `<s>`
    asked = {"model": "llava-demo", "prompt": prompts, "echo": True, "logprobs": 5, "max_tokens": 3}
    number = (401 + 601 + 2 * 3) * 7  # of each token five and its own, and the token
    await needs(gateway, "bodies", kib(320 * number), posts(asked, "/v1/completions"))


# Encoded images


async def test_an_image_in_base64_takes_its_bytes(gateway: Gateway) -> None:
    data = encoded(Image.new("RGB", (64, 48)), "JPEG").ljust(FILE)
    for path in (CHAT, "/v1/chat/completions/render"):
        await needs(gateway, "images", kib(FILE), shows(data_url(data), path))


async def test_an_image_from_a_url_takes_its_bytes(gateway: Gateway, origin: str) -> None:
    await needs(gateway, "images", kib(FILE), shows(f"{origin}/a"))


async def test_an_uploaded_image_takes_its_bytes(gateway: Gateway) -> None:
    data = encoded(Image.new("RGB", (64, 48)), "JPEG").ljust(FILE)
    form = {"files": {"file": ("a.jpeg", data)}, "data": {"purpose": "vision"}}
    file = orjson.loads((await send(gateway, "POST", "/v1/files", **form)).body)["id"]
    asked = chat(messages=saying({"type": "file", "file": {"file_id": file}}))
    await needs(gateway, "images", kib(FILE), posts(asked))


# Pixels: bytes for each, as Pillow and the decoders of WebP and AVIF take them


@each(
    ("format_", "mode", "each"),
    [
        *(("PNG", "RGB", 8), ("PNG", "RGBA", 13), ("PNG", "LA", 13), ("PNG", "P", 9), ("PNG", "L", 7)),
        *(("PNG", "1", 8), ("PNG", "I;16", 11), ("JPEG", "RGB", 8), ("JPEG", "CMYK", 12), ("JPEG", "L", 7)),
        *(("GIF", "L", 9), ("BMP", "RGB", 8)),
        *(("WEBP", "RGB", 17), ("WEBP", "RGBA", 22), ("AVIF", "RGB", 23), ("AVIF", "RGBA", 23)),
        *(
            ("TIFF", "RGB", 16),
            ("TIFF", "RGBA", 17),
            ("TIFF", "L", 16),
            ("TIFF", "CMYK", 16),
            ("HEIF", "RGB", 18),
        ),
    ],
)
async def test_pixels_take_what_their_mode_costs(
    gateway: Gateway, format_: str, mode: str, each: int
) -> None:
    picture = Image.new(mode, (SIDE, SIDE))
    if mode.endswith("A"):
        picture.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
    url = data_url(heic(picture)) if format_ == "HEIF" else url_of(picture, format_)
    await needs(gateway, "small", kib(each * SIDE**2 + MIB), shows(url))


async def test_a_large_jpeg_takes_what_its_reduced_scale_costs(gateway: Gateway) -> None:
    """It is decoded at a quarter: for the padded square of 336, twice that is left to the bicubic step."""
    url = url_of(Image.new("RGB", (4000, 3000)), "JPEG")
    await needs(gateway, "large", kib(8 * 1000 * 750 + MIB), shows(url))


@pytest.mark.parametrize(("subsampling", "coefficients"), [(0, 6), (2, 3)])
async def test_a_progressive_jpeg_takes_its_coefficients_at_any_scale(
    gateway: Gateway, subsampling: int, coefficients: int
) -> None:
    """Two bytes for each sample: of 4:2:0 there are one and a half a pixel, of 4:4:4 three."""
    image = Image.new("RGB", (4000, 3008))
    url = url_of(image, "JPEG", progressive=True, subsampling=subsampling)
    await needs(gateway, "large", kib(8 * 1000 * 752 + coefficients * 4000 * 3008 + MIB), shows(url))


@pytest.mark.slow  # half a second each
@pytest.mark.parametrize(("format_", "each"), [("PNG", 8), ("WEBP", 17)])
async def test_large_images_have_a_budget_of_their_own(gateway: Gateway, format_: str, each: int) -> None:
    options = {"lossless": True, "method": 0} if format_ == "WEBP" else {}
    url = url_of(Image.new("RGB", (2001, 2000)), format_, **options)
    await needs(gateway, "large", kib(each * 2001 * 2000 + MIB), shows(url))


# What is stored


async def stored_image(gateway: Gateway) -> tuple[str, str]:
    """Store a response whose question has an image of FILE bytes; return its id and the question's."""
    data = encoded(Image.new("RGB", (64, 48)), "JPEG").ljust(FILE)
    parts = [{"type": "input_image", "image_url": data_url(data)}]
    response = await posts(responses([{"role": "user", "content": parts}]), "/v1/responses")(gateway)
    name = orjson.loads(response.body)["id"]
    listed = await send(gateway, "GET", f"/v1/responses/{name}/input_items")
    return name, orjson.loads(listed.body)["data"][0]["id"]


def responses(asked: Any, **more: Any) -> dict[str, Any]:
    return {"model": "llava-demo", "input": asked, **more}


def gets(path: str) -> Send:
    return lambda gateway: send(gateway, "GET", path)


async def test_a_conversation_takes_memory_before_it_is_read(gateway: Gateway) -> None:
    name, item = await stored_image(gateway)
    asked = responses("And now?", previous_response_id=name)
    referring = responses([{"type": "item_reference", "id": item}])
    for body in (asked, referring):
        for path in ("/v1/responses", "/v1/responses/input_tokens"):
            await needs_some(gateway, "stored", posts(body, path))


async def test_the_same_item_named_twice_takes_its_memory_twice(gateway: Gateway) -> None:
    _, item = await stored_image(gateway)
    asked = posts(responses([{"type": "item_reference", "id": item}] * 3), "/v1/responses")
    url = 4 * ceil(FILE / 3) + len("data:image/png;base64,")
    async with only(gateway, "stored", kib(2 * 3 * url)):
        assert (await asked(gateway)).status == 503  # there is JSON besides
    async with only(gateway, "stored", kib(2 * 3 * (url + 200))):
        assert (await asked(gateway)).status == 200


async def test_items_referred_to_are_bounded_in_number_and_size(gateway: Gateway) -> None:
    _, item = await stored_image(gateway)
    for times, says in (
        (1001, "1001 items are referred to; the limit is 1000"),
        (100, "the limit is 2097152"),
    ):
        asked = posts(responses([{"type": "item_reference", "id": item}] * times), "/v1/responses")
        refused = await asked(gateway)
        assert (refused.status, refused.error["param"]) == (400, "input")
        assert says in refused.error["message"]


async def test_what_is_listed_takes_memory_until_it_is_sent(gateway: Gateway) -> None:
    name, _ = await stored_image(gateway)
    await needs_some(
        gateway,
        "stored",
        gets(f"/v1/responses/{name}/input_items?include[]=message.input_image.image_url"),
    )
    await needs_some(gateway, "stored", gets("/v1/batches"))


async def test_a_stored_answer_takes_memory_until_it_is_sent() -> None:
    async with scripted_gateway(ScriptedEngine(("x" * FILE,)), max_wait=0.2) as gateway:
        response = await posts(responses("x"), "/v1/responses")(gateway)
        await needs_some(gateway, "stored", gets(f"/v1/responses/{orjson.loads(response.body)['id']}"))


async def test_a_file_takes_memory_for_a_piece_while_it_is_sent(gateway: Gateway) -> None:
    form = {"files": {"file": ("a", bytes(3 * MIB))}, "data": {"purpose": "user_data"}}
    file = orjson.loads((await send(gateway, "POST", "/v1/files", **form)).body)["id"]
    await needs(gateway, "stored", kib(2 * MIB), gets(f"/v1/files/{file}/content"))


async def test_rendered_images_take_memory_by_their_number_and_fits(gateway: Gateway) -> None:
    asked = chat(messages=saying(image(url_of(Image.new("RGB", (9, 9))))), render_fits=["crop", "squash"])
    size = kib(2 * 8 * 336**2 * 3)  # in the default fit too
    await needs(gateway, "stored", size, posts(asked, "/v1/chat/completions/render"))


# Batches


# A line of at most 64 KiB takes none of the memory for what is stored.
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("stored", {"messages": saying(image(url_of(noisy(250, 250))))}),
        ("bodies", {"logprobs": True, "n": 16}),
    ],
    ids=["stored", "bodies"],
)
async def test_a_line_of_a_batch_waits_for_its_memory(kind: str, more: dict[str, Any]) -> None:
    words = tuple(" a" for _ in range(100))
    async with scripted_gateway(ScriptedEngine(words), max_wait=0.2) as gateway:
        line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": chat(**more)}
        form = {"files": {"file": ("a", orjson.dumps(line))}, "data": {"purpose": "batch"}}
        file = orjson.loads((await send(gateway, "POST", "/v1/files", **form)).body)["id"]
        asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        async with only(gateway, kind, 0):
            batch = orjson.loads((await posts(asked, "/v1/batches")(gateway)).body)["id"]
            await until(lambda: budget(gateway, kind).waiting > 0)
            assert await counts(gateway, batch) == {"total": 1, "completed": 0, "failed": 0}
        async with asyncio.timeout(10):
            while (await counts(gateway, batch))["completed"] == 0:  # noqa: ASYNC110  # it is asked over HTTP
                await asyncio.sleep(0.05)


async def counts(gateway: Gateway, batch: str) -> dict[str, int]:
    told: dict[str, int] = orjson.loads((await gets(f"/v1/batches/{batch}")(gateway)).body)["request_counts"]
    return told
