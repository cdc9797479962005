"""Which callers' prompts are found in vLLM's prefix cache."""

from uuid import uuid4

import pytest

from tests.engine.keyed import KEYS
from tests.engine.keyed import client as client_of
from tests.servers import Gateway

pytestmark = pytest.mark.engine

BLOCK = 128  # tokens; vLLM on a CPU caches whole blocks


def long_prompt() -> str:
    return f"{uuid4().hex} " + "circle " * 300  # a token each


async def cached(gateway: Gateway, key: str, prompt: str, route: str = "chat") -> int:
    """Return `cached_tokens` of `prompt` for the holder of `key`."""
    async with client_of(gateway, key) as client:
        if route == "chat":
            chat = await client.chat.completions.create(
                model="llava-demo", messages=[{"role": "user", "content": prompt}], max_tokens=1
            )
            usage = chat.usage
        else:
            text = await client.completions.create(model="llava-demo", prompt=prompt, max_tokens=1)
            usage = text.usage
    assert usage is not None
    assert usage.prompt_tokens > 2 * BLOCK
    assert usage.prompt_tokens_details is not None
    return usage.prompt_tokens_details.cached_tokens or 0


@pytest.mark.parametrize("route", ["chat", "completions"])
async def test_callers_with_keys_find_only_their_own_prompts_cached(keyed: Gateway, route: str) -> None:
    prompt = long_prompt()
    assert await cached(keyed, KEYS["eve"], prompt, route) == 0
    assert await cached(keyed, KEYS["ann"], prompt, route) == 0
    assert await cached(keyed, KEYS["ann"], prompt, route) >= BLOCK


async def test_a_shared_cache_serves_every_caller(gateway: Gateway) -> None:
    prompt = long_prompt()
    assert await cached(gateway, "one", prompt) == 0
    assert await cached(gateway, "another", prompt) >= BLOCK
