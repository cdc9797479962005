"""What is asked of a server: each workload with its bodies built beforehand, and the right answers."""

import os
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import orjson
import pybase64

from engine_config.demo_model import scenes
from tools.bench.pictures import Shot, photograph_jpeg, screenshot_png

HEAD = (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\n\r\n"
)
SHORT, LONG = 16, 64  # tokens of an answer
PROBE_RATE = 10.0  # probes a second
POUR_RATE = 24  # pictures a second that are made ready; a server that answers more ends the pour early
POUR_CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class Ask:
    """A whole HTTP request, and what its answer must begin with, where there is a right one."""

    request: bytes = field(repr=False)
    answer: str | None = None

    @property
    def body(self) -> bytes:
        return self.request.partition(b"\r\n\r\n")[2]


@dataclass(frozen=True, slots=True)
class Load:
    """Conversations, of which `concurrency` are held at once; within one, each request waits for the last."""

    warm_up: tuple[Ask, ...]
    conversations: tuple[tuple[Ask, ...], ...]
    concurrency: int


@dataclass(frozen=True, slots=True)
class Mixed:
    """Probes at a fixed `rate` (a second), whatever comes back, while `pour` goes on."""

    probes: tuple[Ask, ...]
    rate: float
    pour: Load


Plan = Load | Mixed


@dataclass(frozen=True, slots=True)
class Size:
    """How much a workload has: requests, or conversations, or probes."""

    full: int
    quick: int


@dataclass(frozen=True, slots=True)
class Workload:
    title: str
    size: Size
    make: Callable[[str, int], Plan]  # of a model's name and the size


def text(model: str, count: int, *, concurrency: int) -> Load:
    """Return text requests, streamed, each of another text."""
    asks = [_probe(model, f"text {concurrency}", number, LONG) for number in range(count + concurrency)]
    return _singles(asks, count, concurrency)


def pictures(model: str, count: int, *, name: str, shoot: Callable[[str], Shot], concurrency: int) -> Load:
    """Return one question a picture, no two of which are the same, and none of them in the warm-up."""
    warm_up = max(2, concurrency // 4)
    seeds = [f"{name} {number}" for number in range(count + warm_up)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        shots = list(threads.map(shoot, seeds))
    asks = []
    for seed, shot in zip(seeds, shots, strict=True):
        question = scenes.ask(random.Random(seed), shot.scene, "colour")
        asks.append(Ask(_request(model, [_user(question.text, shot)]), question.answer))
    return _singles(asks, count, concurrency)


def eight_questions(model: str, count: int) -> Load:
    """Return conversations of eight unrelated questions about one 12-megapixel picture."""
    warm_up, *rest = (_questions(model, number) for number in range(count + 1))
    return Load(warm_up[:1], tuple(rest), 1)


def chat(model: str, count: int) -> Load:
    """Return six-turn chats; turns one and four bring a 12-megapixel picture, and all is sent each time."""
    warm_up, *rest = (_turns(model, number) for number in range(count + 1))
    return Load(warm_up[:1], tuple(rest), 1)


def mixed(model: str, count: int) -> Mixed:
    """Return text probes, ten a second, and more 12-megapixel pictures than they leave time for."""
    shoot = partial(photograph_jpeg, width=4000, height=3000)
    pour = pictures(
        model, round(count / PROBE_RATE * POUR_RATE), name="mixed", shoot=shoot, concurrency=POUR_CONCURRENCY
    )
    probes = tuple(_probe(model, "probe", number, SHORT) for number in range(count))
    return Mixed(probes, PROBE_RATE, pour)


def _workloads() -> dict[str, Workload]:
    def shown(name: str, shoot: Callable[[str], Shot], concurrency: int) -> Callable[[str, int], Plan]:
        return partial(pictures, name=name, shoot=shoot, concurrency=concurrency)

    def jpeg(width: int, height: int) -> Callable[[str], Shot]:
        return partial(photograph_jpeg, width=width, height=height)

    small = shown("jpeg-336", jpeg(336, 336), 32)
    middling = shown("jpeg-1600", jpeg(1600, 1200), 16)
    large = shown("jpeg-12mp", jpeg(4000, 3000), 16)
    screenshots = shown("png-2000", screenshot_png, 16)
    return {
        "text-1": Workload("text, one at a time", Size(20, 6), partial(text, concurrency=1)),
        "text-32": Workload("text, 32 at a time", Size(320, 96), partial(text, concurrency=32)),
        "jpeg-336": Workload("336-px JPEGs", Size(640, 160), small),
        "jpeg-1600": Workload("1600-px JPEGs", Size(160, 48), middling),
        "jpeg-12mp": Workload("12-megapixel JPEGs", Size(48, 12), large),
        "png-2000": Workload("2000-px PNG screenshots", Size(80, 24), screenshots),
        "one-picture": Workload("one 12-megapixel picture, 8 questions", Size(3, 1), eight_questions),
        "chat": Workload("6-turn chat that resends its pictures", Size(3, 1), chat),
        "mixed": Workload("text probes while 12-megapixel pictures pour in", Size(120, 30), mixed),
    }


WORKLOADS: Mapping[str, Workload] = MappingProxyType(_workloads())


def _singles(asks: list[Ask], count: int, concurrency: int) -> Load:
    return Load(tuple(asks[count:]), tuple((ask,) for ask in asks[:count]), concurrency)


def _probe(model: str, name: str, number: int, tokens: int) -> Ask:
    message = {"role": "user", "content": f"This is {name}, number {number}. Please tell me what you can do."}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return Ask(_request(model, [message], tokens, **options))


def _questions(model: str, number: int) -> tuple[Ask, ...]:
    shot = photograph_jpeg(f"one-picture {number}", 4000, 3000)
    questions = _asked(f"one-picture {number}", shot, 8)
    return tuple(
        Ask(_request(model, [_user(question.text, shot)]), question.answer) for question in questions
    )


def _turns(model: str, number: int) -> tuple[Ask, ...]:
    messages: list[dict[str, Any]] = []
    asks = []
    for half in range(2):
        shot = photograph_jpeg(f"chat {number} {half}", 4000, 3000)
        for turn, question in enumerate(_asked(f"chat {number} {half}", shot, 3)):
            messages.append(_user(question.text, None if turn else shot))
            asks.append(Ask(_request(model, messages), question.answer))
            # The right answer, whatever came: both servers must be sent the same.
            messages.append({"role": "assistant", "content": question.answer})
    return tuple(asks)


def _asked(seed: str, shot: Shot, count: int) -> list[scenes.Question]:
    rng = random.Random(seed)
    topics = ("colour", "count", "shape", "exists")
    return [scenes.ask(rng, shot.scene, topics[number % len(topics)]) for number in range(count)]


def _user(text: str, shot: Shot | None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if shot is not None:
        url = f"data:{shot.media_type};base64,{pybase64.b64encode(shot.data).decode()}"
        parts.insert(0, {"type": "image_url", "image_url": {"url": url}})
    return {"role": "user", "content": parts}


def _request(model: str, messages: list[dict[str, Any]], tokens: int = SHORT, **options: Any) -> bytes:
    # Every answer has exactly `tokens` tokens, so that neither server has more to do. The model's own end is
    # hidden by `min_tokens`: what follows a right answer is without meaning.
    fixed = {"max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True, "temperature": 0}
    body = orjson.dumps({"model": model, "messages": messages} | fixed | options)
    return HEAD.format(len(body)).encode() + body
