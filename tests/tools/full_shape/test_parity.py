"""Behind the gateway, vLLM computes what transformers computes of the same weights.

Both compute in float32 from the same bfloat16 weights. These are random, so the likeliest token may lead by
little; a test holds that even the smallest lead is far above the difference between the two.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionTokenLogprob
from PIL import Image

from gateway.engine.vocabulary import TokenizerFile
from gateway.prompt.styles import STYLES
from gateway.prompt.template import SLOT, PromptMessage, Slot, render
from gateway.settings import Fit
from tests.images.originals import original_crop, original_pad
from tests.images.pictures import photograph, url_of
from tests.prompt.conversations import CONVERSATIONS, assistant, system, user
from tests.prompt.llama import LlamaTokenizerJS
from tools.full_shape.checks import QUESTION
from tools.full_shape.served import Served
from tools.full_shape.shape import IMAGE, SIDE, TOKENS_PER_IMAGE

if TYPE_CHECKING:  # It imports torch, also where the tests of this file are only collected.
    from tools.full_shape.reference import Reference, Step

pytestmark = [pytest.mark.engine, pytest.mark.proof, pytest.mark.timeout(600)]

TOKENS = 4  # of each answer
CLOSE = 1e-3  # between two log probabilities
FITS = {"pad": original_pad, "crop": original_crop}
IMAGES = ("chelsea.png", "coffee.png")  # neither is square


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation whose slots are IMAGES in their order, and how these are made square."""

    messages: Sequence[PromptMessage]
    fit: Fit = "pad"

    @property
    def images(self) -> list[Image.Image]:
        slots = sum(message.parts.count(SLOT) for message in self.messages)
        return [photograph(name) for name in IMAGES[:slots]]

    def on_the_wire(self) -> list[dict[str, Any]]:
        """Return the messages as a client sends them."""
        urls = iter([url_of(image) for image in self.images])

        def part(part: str | Slot) -> dict[str, Any]:
            if isinstance(part, str):
                return {"type": "text", "text": part}
            return {"type": "image_url", "image_url": {"url": next(urls)}}

        return [{"role": m.role, "content": [part(each) for each in m.parts]} for m in self.messages]


def _without_images(name: str) -> list[PromptMessage]:
    texts = [
        PromptMessage(message.role, tuple(part for part in message.parts if isinstance(part, str)))
        for message in CONVERSATIONS[name]
    ]
    return [message for message in texts if message.parts]


CASES = {
    "an image, padded": Case([user(SLOT, QUESTION)]),
    "an image in each turn, cropped": Case(
        [system("S"), user(SLOT, "What is it?"), assistant("A cat."), user("And this?", SLOT)], "crop"
    ),
    **{
        name: Case(_without_images(name))
        for name in (
            "no picture",
            "three turns",
            "system text",
            "blanks at both ends",
            "emoji",
            "Chinese",
            "tabs",
            "spelt-out tokens",
        )
    },
}


@dataclass(frozen=True, slots=True)
class Pair:
    """The gateway's answer to a case, and transformers' to the ids that the real Llama has for it."""

    ids: list[int]
    answer: ChatCompletion
    steps: "list[Step]"

    @property
    def entries(self) -> list[ChatCompletionTokenLogprob]:
        logprobs = self.answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        return logprobs.content

    @property
    def differences(self) -> list[float]:
        return [
            abs(entry.logprob - step.logprob) for entry, step in zip(self.entries, self.steps, strict=True)
        ]


@pytest.fixture(scope="module")
async def answers(served: Served) -> list[ChatCompletion]:
    """Return the gateway's answers to all CASES, asked at once."""
    options: dict[str, Any] = {"max_tokens": TOKENS, "logprobs": True}
    return await asyncio.gather(
        *(
            served.ask(*case.on_the_wire(), extra_body={"image_fit": case.fit}, **options)
            for case in CASES.values()
        )
    )


@pytest.fixture(scope="module")
def reference(shape_folder: Path) -> "Reference":
    from tools.full_shape.reference import Reference  # noqa: PLC0415

    return Reference(shape_folder)


@pytest.fixture(scope="module")
def pairs(
    answers: list[ChatCompletion], reference: "Reference", llama_js: LlamaTokenizerJS
) -> dict[str, Pair]:
    pairs = {}
    for (name, case), answer in zip(CASES.items(), answers, strict=True):
        (ids,) = llama_js.prompts([render(case.messages, STYLES["card"])])
        steps = reference.generate(ids, [FITS[case.fit](image, SIDE) for image in case.images], TOKENS)
        pairs[name] = Pair(ids, answer, steps)
    return pairs


@pytest.mark.parametrize("name", CASES)
def test_greedy_answer_is_that_of_transformers_to_the_real_llamas_ids(
    name: str, pairs: dict[str, Pair], shape_folder: Path
) -> None:
    pair = pairs[name]
    usage = pair.answer.usage
    assert usage is not None
    assert usage.prompt_tokens == len(pair.ids) + pair.ids.count(IMAGE) * (TOKENS_PER_IMAGE - 1)
    vocabulary = TokenizerFile.from_file(shape_folder / "tokenizer.json")
    assert [bytes(entry.bytes or []) for entry in pair.entries] == [
        vocabulary.raw(step.token) for step in pair.steps
    ]


@pytest.mark.parametrize("name", CASES)
def test_log_probabilities_are_those_of_transformers(name: str, pairs: dict[str, Pair]) -> None:
    assert max(pairs[name].differences) < CLOSE


def test_no_token_is_the_likeliest_by_chance(pairs: dict[str, Pair]) -> None:
    smallest_lead = min(step.margin for pair in pairs.values() for step in pair.steps)
    noise = max(difference for pair in pairs.values() for difference in pair.differences)
    assert smallest_lead > 10 * noise


def test_with_another_fit_the_log_probabilities_would_be_others(
    pairs: dict[str, Pair], reference: "Reference"
) -> None:
    padded = pairs["an image, padded"]
    cropped = [original_crop(photograph(IMAGES[0]), SIDE)]
    (step,) = reference.generate(padded.ids, cropped, 1)
    assert abs(step.logprob - padded.steps[0].logprob) > 10 * CLOSE
