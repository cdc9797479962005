"""A seed never harms the engine, even if vLLM computes a prompt in several steps.

On a CPU vLLM computes 2048 tokens per step; longer prompts, or several, are split.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from tests.servers import Gateway, metric

pytestmark = pytest.mark.engine

STEP = 2048  # tokens


@pytest.fixture(autouse=True)
async def engine_that_lives(gateway: Gateway) -> AsyncIterator[None]:
    """Check that the engine was not restarted by these tests."""
    before = await metric(gateway, "gateway_engine_restarts_total")
    yield
    assert await metric(gateway, "gateway_engine_restarts_total") == before


async def drawn(client: AsyncOpenAI, text: str, seed: int) -> ChatCompletion:
    return await client.chat.completions.create(
        model="llava-demo",
        messages=[{"role": "user", "content": text}],
        seed=seed,
        temperature=1,
        max_tokens=16,
        extra_body={"ignore_eos": True},
    )


async def test_a_seeded_prompt_longer_than_a_step_is_answered_the_same_when_it_is_split_and_when_not(
    client: AsyncOpenAI,
) -> None:
    text = " ".join(str(number) for number in range(800))
    split = await drawn(client, text, seed=1)
    assert split.usage is not None
    assert split.usage.prompt_tokens > STEP
    whole = await drawn(client, text, seed=1)  # nearly all of it comes from the prefix cache
    assert whole.usage is not None
    assert whole.usage.prompt_tokens_details is not None
    assert (whole.usage.prompt_tokens_details.cached_tokens or 0) > STEP
    assert split.choices[0].message.content == whole.choices[0].message.content
    other = await drawn(client, text, seed=2)
    assert other.choices[0].message.content != whole.choices[0].message.content


async def test_16_seeded_requests_of_300_words_at_once_are_all_answered(client: AsyncOpenAI) -> None:
    texts = [" ".join(f"{word * number}" for word in range(300)) for number in range(1, 17)]
    replies = await asyncio.gather(*(drawn(client, text, seed) for seed, text in enumerate(texts)))
    usages = [reply.usage for reply in replies]
    assert all(usage is not None and usage.completion_tokens == 16 for usage in usages)
    assert sum(usage.prompt_tokens for usage in usages if usage is not None) > 2 * STEP
