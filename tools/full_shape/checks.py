"""What must hold of LLaVA-1.5-7B's shape behind the gateway: run by the tests and by `make full-shape`."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from openai import BadRequestError

from tests.images.pictures import encoded, photograph, url_of
from tests.servers import metric, samples
from tools.full_shape.served import Served, user
from tools.full_shape.shape import CONTEXT, SIDE

QUESTION = "What is to be seen in this picture?"
SQUARE = photograph("astronaut.png").resize((SIDE, SIDE))
SEVEN = 4059  # tokens of a prompt with seven images and "Which?", after the card's style


async def one_image_prompt(served: Served) -> None:
    reply = await served.ask(user(QUESTION, url_of(SQUARE)), max_tokens=1)
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 597


async def full_context(served: Served) -> None:
    # " a" is one token.
    def prompt(tokens: int) -> dict[str, Any]:
        return user("Which?" + " a" * (tokens - SEVEN), *[url_of(SQUARE)] * 7)

    async def usage(tokens: int, **options: Any) -> tuple[int, int, int]:
        found = (await served.ask(prompt(tokens), **options)).usage
        assert found is not None
        return found.prompt_tokens, found.completion_tokens, found.total_tokens

    assert await usage(SEVEN, max_tokens=1) == (SEVEN, 1, SEVEN + 1)
    # The whole room that is left, not asked for and asked for.
    assert await usage(CONTEXT - 1) == (CONTEXT - 1, 1, CONTEXT)
    assert await usage(CONTEXT - 6, max_tokens=6) == (CONTEXT - 6, 6, CONTEXT)
    # One more than that is an upper bound, and the context holds no more.
    assert await usage(CONTEXT - 6, max_tokens=7) == (CONTEXT - 6, 6, CONTEXT)
    numbers = await refusal(served, prompt(CONTEXT), code="context_length_exceeded")
    assert numbers >= {CONTEXT}


async def too_many_images(served: Served) -> None:
    async with image_server() as (url, requests):
        numbers = await refusal(served, user("Which?", *[url] * 8), code="too_many_images")
        assert numbers >= {8, 7}
        long = user("Which?" + " a" * (CONTEXT - SEVEN), *[url] * 7)
        numbers = await refusal(served, long, code="context_length_exceeded")
        assert numbers >= {CONTEXT}
        assert requests == []
        await served.ask(user("Which?", url), max_tokens=1)
        assert requests == ["/image.png"]  # so the server does count


async def usage_of_the_engine(served: Served) -> None:
    names = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
    before = [await metric(served.gateway, name) for name in names]
    usage = (await served.ask(user("Name three colours."), max_tokens=5)).usage
    assert usage is not None
    expected = [before[0] + usage.prompt_tokens, before[1] + usage.completion_tokens]
    async with asyncio.timeout(5):
        while [await metric(served.gateway, name) for name in names] != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # vLLM counts after it has answered


async def kv_cache(served: Served) -> None:
    reported = await kv_cache_tokens(served)
    planned = served.plan.kv_tokens
    assert abs(reported - planned) <= 0.02 * planned, f"vLLM has room for {reported} tokens, not {planned}"


CHECKS: Mapping[str, Callable[[Served], Awaitable[None]]] = {
    "one 336-px image and a question of eight words are 597 tokens": one_image_prompt,
    "seven images fill the context; prompt and answer get 4096 tokens, not one more": full_context,
    "an eighth image or a longer text is refused with the numbers before any fetch": too_many_images,
    "usage is the engine's own count": usage_of_the_engine,
    "the KV cache holds as many tokens as planned, within 2 %": kv_cache,
}


async def kv_cache_tokens(served: Served) -> int:
    """Return for how many tokens vLLM has room: its blocks times their size."""
    (info,) = await samples(served.gateway, "vllm:cache_config_info")
    return int(info.labels["num_gpu_blocks"]) * int(info.labels["block_size"])


async def refusal(served: Served, *messages: Any, code: str, **options: Any) -> set[int]:
    """Expect a 400 with that code; return the numbers in its message."""
    with pytest.raises(BadRequestError) as caught:
        await served.ask(*messages, **options)
    assert caught.value.code == code, caught.value.message
    return {int(number) for number in re.findall(r"\d+", caught.value.message)}


@asynccontextmanager
async def image_server() -> AsyncIterator[tuple[str, list[str]]]:
    """Yield the URL of an image on this machine, and the paths that were asked for since."""
    requests: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        requests.append(request.path)
        return web.Response(body=encoded(SQUARE), content_type="image/png")

    app = web.Application()
    app.router.add_get("/{name}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/image.png", requests
    finally:
        await runner.cleanup()
