"""`/v1/completions` on the real engine."""

from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types import CompletionChoice

pytestmark = pytest.mark.engine

MODEL = "llava-demo"
PROMPT = "USER: Hello\nASSISTANT:"


async def test_a_chats_prompt_sent_raw_gets_the_chats_answer(client: AsyncOpenAI) -> None:
    chat = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], temperature=0
    )
    raw = await client.completions.create(model=MODEL, prompt=PROMPT, temperature=0, max_tokens=64)
    assert raw.choices[0].text == f" {chat.choices[0].message.content}"
    assert chat.usage is not None
    assert raw.usage is not None
    assert raw.usage.prompt_tokens == chat.usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_several_prompts_are_answered_each_for_itself(client: AsyncOpenAI, stream: bool) -> None:
    prompts = [PROMPT, "USER: What is your name?\nASSISTANT:", "USER: "]
    alone = [
        (await client.completions.create(model=MODEL, prompt=prompt, temperature=0)).choices[0].text
        for prompt in prompts
    ]
    texts = [""] * 6
    if stream:
        answers = await client.completions.create(
            model=MODEL, prompt=prompts, n=2, temperature=0, stream=True
        )
        async for chunk in answers:
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    else:
        whole = await client.completions.create(model=MODEL, prompt=prompts, n=2, temperature=0)
        texts = [choice.text for choice in whole.choices]
    assert texts == [text for text in alone for _ in range(2)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompts_log_probabilities_are_those_of_generating_it(
    client: AsyncOpenAI, stream: bool
) -> None:
    drawn = await client.completions.create(
        model=MODEL, prompt=PROMPT, temperature=0, max_tokens=4, logprobs=2, extra_body={"ignore_eos": True}
    )
    generated = drawn.choices[0].logprobs
    assert generated is not None
    text = PROMPT + drawn.choices[0].text
    if stream:
        answers = await client.completions.create(
            model=MODEL, prompt=text, echo=True, max_tokens=0, logprobs=2, stream=True
        )
        choice, end = [choice async for chunk in answers for choice in chunk.choices]
        assert (end.text, end.finish_reason) == ("", "length")
    else:
        told = await client.completions.create(model=MODEL, prompt=text, echo=True, max_tokens=0, logprobs=2)
        (choice,) = told.choices
    assert choice.text == text
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert generated.tokens is not None
    assert generated.token_logprobs is not None
    assert logprobs.tokens[0] == "<s>"
    assert str(logprobs.token_logprobs[0]) == "None"  # as OpenAI's, whatever the SDK's types say
    spoken = [token for token in generated.tokens if token != "</s>"]
    assert len(spoken) >= 2
    assert logprobs.tokens[-len(spoken) :] == spoken
    assert logprobs.token_logprobs[-len(spoken) :] == pytest.approx(
        generated.token_logprobs[: len(spoken)], abs=0.1
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_each_choice_has_its_prompts_log_probabilities_and_then_its_own(
    client: AsyncOpenAI, stream: bool
) -> None:
    fields: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "echo": True, "logprobs": 1, "n": 2}
    fields |= {"max_tokens": 4, "extra_body": {"ignore_eos": True}}
    choices: list[CompletionChoice] = []
    if stream:
        async for chunk in await client.completions.create(**fields, stream=True):
            choices += chunk.choices
    else:
        choices = (await client.completions.create(**fields)).choices
    for index in (0, 1):
        told = [choice for choice in choices if choice.index == index]
        tokens = [token for choice in told for token in (choice.logprobs and choice.logprobs.tokens) or ()]
        assert tokens[0] == "<s>"
        assert tokens.count("<s>") == 1
        assert "".join(tokens[1:]).strip().startswith("USER: Hello\nASSISTANT:")
        alone = await client.completions.create(
            model=MODEL, prompt=PROMPT, echo=True, logprobs=0, max_tokens=0
        )
        prompt = alone.choices[0].logprobs
        assert prompt is not None
        assert prompt.tokens is not None
        assert len(tokens) == len(prompt.tokens) + 4
