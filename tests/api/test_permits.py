"""Memory is held before it is taken: where a budget is one KiB short of what a request needs, it is a 503."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from math import ceil
from typing import Any

import orjson
import pytest
from PIL import Image

from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.access.memory import Memory
from gateway.access.shares import Shares
from tests.api.asking import chat, image, saying, send
from tests.api.wire import CHAT, Answer
from tests.bench.hostile import large_files
from tests.images.pictures import data_url, encoded, url_of
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

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


def budget(gateway: Gateway, kind: str) -> Shares:
    assert gateway.app is not None
    memory: Memory = gateway.app.state.loader._memory
    shares: Shares = getattr(memory, f"_{kind}")
    return shares


@asynccontextmanager
async def only(gateway: Gateway, kind: str, left: int) -> AsyncIterator[None]:
    """Hold all of a budget but `left` KiB."""
    shares = budget(gateway, kind)
    holding = await shares.take(HOLDER, shares.total - left)
    yield
    holding.release()
    assert shares.taken == 0


def kib(size: float) -> int:
    return ceil(size / 1024)


async def needs(gateway: Gateway, kind: str, size: int, ask: Send) -> None:
    """Expect that `ask` needs `size` KiB, no more and no less."""
    async with only(gateway, kind, size - 1):
        refused = await ask(gateway)
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    async with only(gateway, kind, size):
        assert (await ask(gateway)).status == 200


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


async def test_log_probabilities_take_320_bytes_each(gateway: Gateway) -> None:
    asked = chat(logprobs=True, top_logprobs=20, n=16, max_tokens=100)
    await needs(gateway, "bodies", kib(320 * 16 * 100 * 21), posts(asked))


async def test_so_do_those_of_prompts_that_are_told_again(gateway: Gateway) -> None:
    prompts = ["x" * 400, "x" * 600]  # of as many tokens, after `<s>`
    asked = {"model": "llava-demo", "prompt": prompts, "echo": True, "logprobs": 5, "max_tokens": 3}
    number = (401 + 601 + 2 * 3) * 6
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


@pytest.mark.parametrize(
    ("format_", "mode", "each"),
    [
        *(("PNG", "RGB", 8), ("PNG", "RGBA", 13), ("PNG", "LA", 13), ("PNG", "P", 9), ("PNG", "L", 7)),
        *(("PNG", "1", 8), ("PNG", "I;16", 11), ("JPEG", "RGB", 8), ("JPEG", "CMYK", 12), ("JPEG", "L", 7)),
        *(("GIF", "L", 9), ("BMP", "RGB", 8)),
        *(("WEBP", "RGB", 17), ("WEBP", "RGBA", 22), ("AVIF", "RGB", 23), ("AVIF", "RGBA", 23)),
    ],
)
async def test_pixels_take_what_their_mode_costs(
    gateway: Gateway, format_: str, mode: str, each: int
) -> None:
    picture = Image.new(mode, (SIDE, SIDE))
    if mode.endswith("A"):
        picture.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
    await needs(gateway, "small", kib(each * SIDE**2 + MIB), shows(url_of(picture, format_)))


async def test_a_large_jpeg_takes_what_its_reduced_scale_costs(gateway: Gateway) -> None:
    """It is decoded at a quarter: for the padded square of 336, twice that is left to the bicubic step."""
    url = url_of(Image.new("RGB", (4000, 3000)), "JPEG")
    await needs(gateway, "large", kib(8 * 1000 * 750 + MIB), shows(url))


@pytest.mark.slow  # half a second each
@pytest.mark.parametrize(("format_", "each"), [("PNG", 8), ("WEBP", 17)])
async def test_large_images_have_a_budget_of_their_own(gateway: Gateway, format_: str, each: int) -> None:
    options = {"lossless": True, "method": 0} if format_ == "WEBP" else {}
    url = url_of(Image.new("RGB", (2001, 2000)), format_, **options)
    await needs(gateway, "large", kib(each * 2001 * 2000 + MIB), shows(url))
