"""Asks a running gateway about 500 fresh pictures and prints how many answers are right, kind by kind.

    python -m engine_config.demo_model.evaluate [--base-url URL] [--four-ways] [--about words]

An answer is right if it is exactly the expected text, by default at temperature 0. The
scenes are others than those the model learned from: another seed, and pictures of other sizes, from 112 to
1600 px. With `--four-ways` each is asked with the picture before and after the text, with and without a
system message. `--about words` puts words around the questions that have nothing to do with them, or asks
them in other words; `--about others` asks about photographs and drawings that are no drawn scenes. Both are
of kinds that training never saw.
"""

import argparse
import asyncio
import base64
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam
from PIL import Image

from engine_config.demo_model import scenes
from engine_config.demo_model.material import drawings, photographs
from engine_config.demo_model.material.surroundings import Surroundings
from engine_config.demo_model.material.unseen_words import UNSEEN

SEED = 20_000_003
SIDES = (112, 150, 224, 336, 500, 800, 1200, 1600)  # pixels of the longer side
KINDS = (*scenes.TOPICS, "which picture", "second turn")
WORDS = ("file note", "system prompt", "earlier turns", "greeting", "other words", "all of these")
OTHERS = ("photograph", "drawing")
AT_ONCE = 8


SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True, slots=True)
class Way:
    """How a question is put: the text before the pictures or after, a system message or none.

    `fields` are further fields of the request.
    """

    text_first: bool = False
    system: bool = False
    fields: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0})

    def __str__(self) -> str:
        order = "text, then picture" if self.text_first else "picture, then text"
        return f"{order}, with a system message" if self.system else order


PLAIN = Way()
FOUR_WAYS = tuple(Way(text_first, system) for text_first in (False, True) for system in (False, True))


@dataclass(frozen=True, slots=True)
class Case:
    """Pictures as data URLs, a first question where there is one, and the question that counts.

    `system` and `earlier` turns of words come before the pictures.
    """

    kind: str
    pictures: tuple[str, ...]
    first: str | None
    question: str
    answer: str
    system: str = ""
    earlier: tuple[tuple[str, str], ...] = ()


def cases(count: int, seed: int = SEED) -> list[Case]:
    """Return `count` cases, the kinds of question in turn."""
    rng = random.Random(seed)
    return [_case(rng, KINDS[number % len(KINDS)]) for number in range(count)]


def cases_among_words(count: int, seed: int = SEED) -> list[Case]:
    """Return `count` cases with words around the question, or in other words, each of WORDS in turn."""
    rng = random.Random(seed)
    words, topics = Surroundings(rng, UNSEEN), list(scenes.TOPICS)
    return [
        _surrounded(rng, words, WORDS[number % len(WORDS)], topics[number // len(WORDS) % len(topics)])
        for number in range(count)
    ]


def cases_of_others(count: int, seed: int = SEED) -> list[Case]:
    """Return `count` cases about photographs and drawings that are no drawn scenes, in turn."""
    rng = random.Random(seed)
    return [_other(rng, OTHERS[number % len(OTHERS)]) for number in range(count)]


ABOUT: Mapping[str, Callable[[int, int], list[Case]]] = {
    "scenes": cases,
    "words": cases_among_words,
    "others": cases_of_others,
}


async def ask(client: AsyncOpenAI, model: str, case: Case, way: Way = PLAIN) -> str:
    """Return what the gateway answers to the case's question."""
    pictures: list[ChatCompletionContentPartParam] = [
        {"type": "image_url", "image_url": {"url": url}} for url in case.pictures
    ]
    text: ChatCompletionContentPartParam = {"type": "text", "text": case.first or case.question}
    content = [text, *pictures] if way.text_first else [*pictures, text]
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": content}]
    for said, answered in reversed(case.earlier):
        messages[:0] = [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]
    if way.system or case.system:
        messages.insert(0, {"role": "system", "content": case.system or SYSTEM})
    if case.first:
        messages.append({"role": "assistant", "content": await _reply(client, model, messages, way)})
        messages.append({"role": "user", "content": case.question})
    return await _reply(client, model, messages, way)


async def answers(client: AsyncOpenAI, asked: Sequence[Case], way: Way = PLAIN) -> list[str]:
    """Return what the gateway answers to each case."""
    model = (await client.models.list()).data[0].id
    places = asyncio.Semaphore(AT_ONCE)

    async def answer(case: Case) -> str:
        async with places:
            return await ask(client, model, case, way)

    return await asyncio.gather(*(answer(case) for case in asked))


def right(asked: Sequence[Case], answered: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return for each kind of question how many answers were right, and of how many."""
    pairs = list(zip(asked, answered, strict=True))
    good = Counter(case.kind for case, answer in pairs if answer == case.answer)
    return {kind: (good[kind], total) for kind, total in Counter(case.kind for case in asked).items()}


async def right_answers(
    client: AsyncOpenAI, asked: Sequence[Case], way: Way = PLAIN
) -> dict[str, tuple[int, int]]:
    """Ask all cases; return for each kind of question how many answers were right, and of how many."""
    return right(asked, await answers(client, asked, way))


def table(results: dict[str, tuple[int, int]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| question | right | of | share |", "| --- | --- | --- | --- |"]
    for kind, (good, total) in [*results.items(), ("all", _all(results))]:
        lines.append(f"| {kind} | {good} | {total} | {100 * good / total:.1f} % |")
    return "\n".join(lines)


def _case(rng: random.Random, kind: str) -> Case:
    if kind == "which picture":
        pair = scenes.sample_pair(rng)
        question = scenes.ask_which(rng, *pair)
        return Case(kind, tuple(data_url(rng, scene) for scene in pair), None, question.text, question.answer)
    scene = scenes.sample_scene(rng)
    while kind == "side" and len(scene.shapes) == 1:
        scene = scenes.sample_scene(rng)
    first = scenes.ask(rng, scene).text if kind == "second turn" else None
    question = scenes.ask(rng, scene, kind if kind in scenes.TOPICS else None)
    return Case(kind, (data_url(rng, scene),), first, question.text, question.answer)


def _surrounded(rng: random.Random, words: Surroundings, kind: str, topic: str) -> Case:
    scene = scenes.sample_scene(rng)
    while topic == "side" and len(scene.shapes) == 1:
        scene = scenes.sample_scene(rng)
    question = scenes.ask(rng, scene, topic)
    everything = kind == "all of these"
    text = words.rephrased(question) if everything or kind == "other words" else question.text
    text = words.put(text) if everything or kind == "greeting" else text
    note = words.noted(400) if everything or kind == "file note" else ""
    system = words.system(rng.randint(40, 700)) if everything or kind == "system prompt" else ""
    earlier = [words.chat(200) for _ in range(2)] if everything or kind == "earlier turns" else []
    return Case(kind, (data_url(rng, scene),), None, note + text, question.answer, system, tuple(earlier))


def _other(rng: random.Random, kind: str) -> Case:
    if kind == "photograph":
        photos = photographs.load(photographs.UNSEEN)
        picture = photographs.crop(rng, rng.choice(photos), smallest=0.4)
    else:
        picture = drawings.draw(rng, drawings.UNSEEN)
    question = scenes.ask(rng, scenes.sample_scene(rng, ["circle", "star"]))
    return Case(kind, (_encoded(rng, picture),), None, question.text, scenes.REFUSAL)


def data_url(rng: random.Random, scene: scenes.Scene, side: int | None = None) -> str:
    """Draw `scene` at one of SIDES (or `side`), as JPEG or PNG, into a data URL."""
    return _encoded(rng, scenes.draw(scene, side or rng.choice(SIDES)))


def _encoded(rng: random.Random, picture: Image.Image) -> str:
    buffer = io.BytesIO()
    kind = rng.choice(("jpeg", "png"))
    picture.save(buffer, kind, **({"quality": rng.randint(75, 95)} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


async def _reply(
    client: AsyncOpenAI, model: str, messages: list[ChatCompletionMessageParam], way: Way
) -> str:
    answer = await client.chat.completions.create(
        model=model, messages=messages, max_tokens=64, extra_body=dict(way.fields)
    )
    return answer.choices[0].message.content or ""


async def _main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    arguments.add_argument("--count", type=int, default=500)
    arguments.add_argument("--seed", type=int, default=SEED)
    arguments.add_argument("--about", choices=list(ABOUT), default="scenes")
    arguments.add_argument("--four-ways", action="store_true")
    arguments.add_argument("--fields", type=json.loads, default=dict(PLAIN.fields), help="as JSON")
    chosen = arguments.parse_args()
    ways = FOUR_WAYS if chosen.four_ways else (PLAIN,)
    asked = ABOUT[chosen.about](chosen.count, chosen.seed)
    async with AsyncOpenAI(base_url=chosen.base_url, api_key="none") as client:
        answered_by = {
            str(way): await answers(client, asked, replace(way, fields=chosen.fields)) for way in ways
        }
    results = {way: right(asked, answered) for way, answered in answered_by.items()}
    if chosen.four_ways:
        print(table({name: _all(result) for name, result in results.items()}))
    else:
        print(table(*results.values()))
    if chosen.about != "others":
        refused = sum(answer == scenes.REFUSAL for answered in answered_by.values() for answer in answered)
        print(f"{refused} were answered {scenes.REFUSAL!r}")


def _all(results: dict[str, tuple[int, int]]) -> tuple[int, int]:
    good, total = map(sum, zip(*results.values(), strict=True))
    return good, total


if __name__ == "__main__":
    asyncio.run(_main())
