"""Limits count what each caller sends, in memory and in Redis that replicas share."""

import asyncio
import random
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal
from unittest.mock import ANY

import pytest

from gateway.access import limits as limiting
from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.access.limits import Limits, limits_problem
from gateway.access.window import Window
from gateway.errors import RateLimited, Unavailable
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from tests.debian import require
from tests.servers import free_port


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a Redis of this test's own."""
    folder = tmp_path_factory.mktemp("redis")
    url, process = start_redis(free_port(), folder)
    yield url
    process.terminate()
    process.wait(10)


def start_redis(port: int, folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    command = [require("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    cli = [require("redis-cli", "redis-tools"), "-p", str(port), "ping"]
    while subprocess.run(cli, capture_output=True, check=False).stdout != b"PONG\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return f"redis://127.0.0.1:{port}", process


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("redis")


Make = Callable[..., Limits]


@pytest.fixture
async def limits(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Make limits that are closed after the test."""
    monkeypatch.setattr(limiting, "REDIS_TIMEOUT", 10.0)  # a busy machine is not a Redis that is away
    made: list[Limits] = []

    def make(url: str | None = None, unreachable: Literal["allow", "refuse"] = "allow") -> Limits:
        made.append(Limits(Settings(limits_url=url, limits_unreachable=unreachable), Metrics()))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def caller(name: str, **most: int) -> Caller:
    return Caller(f"{name}-{time.monotonic_ns()}", "", CallerClass("tried", **most))


async def test_requests_are_counted_each_callers_own(limits: Make, url: str | None) -> None:
    counted = limits(url)
    ann, ben = (caller(name, requests_per_minute=3) for name in ("ann", "ben"))
    left = []
    for _ in range(3):
        headers = await counted.request(ann)
        assert headers["x-ratelimit-limit-requests"] == "3"
        assert headers["x-ratelimit-reset-requests"].endswith("s")
        left.append(headers["x-ratelimit-remaining-requests"])
    assert left == ["2", "1", "0"]
    with pytest.raises(RateLimited) as refused:
        await counted.request(ann)
    assert refused.value.message == ("the limit is 3 requests per minute; 0 are left and the request needs 1")
    assert 0 < refused.value.retry_after <= 60
    await counted.request(ben)


async def test_tokens_and_images_are_counted_before_and_after(limits: Make, url: str | None) -> None:
    counted = limits(url)
    ann = caller("ann", tokens_per_minute=100, images_per_minute=2)
    await counted.request(ann)
    await counted.spend(ann, 60, 1)
    await counted.owe(ann, 1000)  # an answer is never cut for it
    with pytest.raises(RateLimited, match=r"^the limit is 100 tokens per minute; 0 are left"):
        await counted.request(ann)
    ben = caller("ben", images_per_minute=2)
    await counted.spend(ben, 10, 2)
    with pytest.raises(
        RateLimited, match=r"^the limit is 2 images per minute; 0 are left and the request needs 1$"
    ):
        await counted.spend(ben, 10, 1)
    with pytest.raises(RateLimited, match=r"^the request has 3 images; the limit is 2 per minute$"):
        await counted.spend(caller("eve", images_per_minute=2), 10, 3)


async def test_a_refusal_says_what_is_left_of_each_limit(limits: Make, url: str | None) -> None:
    counted = limits(url)
    ann = caller("ann", requests_per_minute=1, tokens_per_minute=100, images_per_minute=2)
    assert (await counted.request(ann))["x-ratelimit-reset-tokens"] == "0.000s"
    assert await counted.spend(ann, 60, 0) == {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "40",
        "x-ratelimit-reset-tokens": ANY,
    }
    with pytest.raises(RateLimited) as refused:
        await counted.request(ann)
    told = refused.value.headers
    assert {kind: told[f"x-ratelimit-remaining-{kind}"] for kind in ("requests", "tokens", "images")} == {
        "requests": "0",
        "tokens": "40",
        "images": "2",
    }
    # The whole limit is there again when this minute of counting, and the one after it, are over.
    assert 60 <= float(told["x-ratelimit-reset-requests"].removesuffix("s")) <= 120


@pytest.mark.parametrize("seed", range(200))
def test_who_is_refused_is_told_the_moment_from_which_there_is_room(seed: int) -> None:
    lot = random.Random(seed)
    limit, ends = lot.randint(1, 1000), lot.uniform(0.1, 60)
    before, now = lot.randint(0, limit), lot.randint(0, limit)
    amount = lot.randint(1, limit)
    window = Window(limit, before, ends if before else 0, now, 60 + ends if now else 0)
    wait = window.seconds_until(amount)
    assert left_after(window, ends, wait) >= amount
    if wait > 0.01:
        assert left_after(window, ends, wait - 0.005) < amount
    assert left_after(window, ends, window.reset) == limit


def left_after(window: Window, ends: float, seconds: float) -> int:
    """Return what is left that much later, where the minute `ends` in so many seconds."""
    if seconds < ends:
        later = (window.before, window.before_ends - seconds, window.now, window.now_ends - seconds)
    else:
        later = (window.now, max(0.0, window.now_ends - seconds), 0, 0.0)
    return Window(window.amount, *later).left


@pytest.mark.parametrize(
    "url", ["nonsense", "http://x", "redis://:secret@127.0.0.1:port", "redis://[::1", ""]
)
def test_an_address_that_is_no_redis_is_told_at_the_start(url: str) -> None:
    problem = limits_problem(Settings(limits_url=url))
    assert problem is not None
    assert problem.startswith("GATEWAY_LIMITS_URL: expected a Redis as redis://")
    assert "secret" not in problem


@pytest.mark.parametrize(
    "url", [None, "redis://127.0.0.1:6379", "rediss://:pw@[::1]:6380/2", "redis+unix:///run/r"]
)
def test_an_address_of_a_redis_is_right(url: str | None) -> None:
    assert limits_problem(Settings(limits_url=url)) is None


async def test_replicas_that_share_redis_count_together(limits: Make, redis: str) -> None:
    replicas = [limits(redis), limits(redis)]
    ann = caller("ann", requests_per_minute=10)
    outcomes = await asyncio.gather(
        *(replicas[number % 2].request(ann) for number in range(30)), return_exceptions=True
    )
    assert sum(isinstance(outcome, dict) for outcome in outcomes) == 10


async def test_redis_that_goes_away_lets_pass_or_refuses_as_set(
    limits: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiting, "UNREACHABLE_PAUSE", 0.2)
    port = free_port()
    url, process = start_redis(port, tmp_path)
    lenient, strict = limits(url), limits(url, "refuse")
    ann = caller("ann", requests_per_minute=2)
    await lenient.request(ann)
    await strict.request(ann)
    process.kill()
    process.wait(10)
    for _ in range(5):
        began = time.monotonic()
        assert (await lenient.request(ann))["x-ratelimit-limit-requests"] == "2"
        with pytest.raises(Unavailable, match="limits cannot be checked"):
            await strict.request(ann)
        assert time.monotonic() - began < 10
    _, process = start_redis(port, tmp_path)
    await asyncio.sleep(0.3)
    for _ in range(2):
        await strict.request(ann)
    with pytest.raises(RateLimited):
        await strict.request(ann)
    process.terminate()
    process.wait(10)


async def test_who_has_no_limits_is_not_counted(limits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = limits()
    monkeypatch.setattr(counted, "_limiter", None)
    ann = caller("ann")
    assert await counted.request(ann) == {}
    await counted.spend(ann, 10**9, 10**9)
    await counted.owe(ann, 10**9)
