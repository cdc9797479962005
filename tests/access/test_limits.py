"""Limits count what each caller sends, in memory and in Redis that replicas share."""

import asyncio
import random
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest

from gateway.access import limits as limiting
from gateway.access.callers import Caller
from gateway.access.counts import Ask, MemoryCounts
from gateway.access.keys import CallerClass
from gateway.access.limits import Limits, Reservation, limits_problem
from gateway.access.redis_counts import PREFIX, RedisCounts
from gateway.access.window import Window
from gateway.errors import RateLimited, Unavailable
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from tests.debian import require
from tests.each import each
from tests.growth import assert_ratio
from tests.servers import free_port


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a Redis of this test's own."""
    folder = tmp_path_factory.mktemp("redis")
    url, process = start_redis(free_port(), folder)
    yield url
    process.terminate()
    process.wait(10)


def start_redis(port: int, folder: Path, *options: str) -> tuple[str, subprocess.Popen[bytes]]:
    command = [require("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    cli = [require("redis-cli", "redis-tools"), "-p", str(port), "ping"]
    while not subprocess.run(cli, capture_output=True, check=False).stdout.startswith((b"PONG", b"NOAUTH")):
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


async def test_what_an_answer_may_have_is_reserved_before_and_settled_after(
    limits: Make, url: str | None
) -> None:
    counted = limits(url)
    ann = caller("ann", tokens_per_minute=1000)
    asked = (counted.reserve(ann, 30, 0, 300) for _ in range(20))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 3
    await counted.settle(ann, 330, 30, 20)  # of the 300 it had 20
    assert (await counted.request(ann))["x-ratelimit-remaining-tokens"] == "290"
    with pytest.raises(
        RateLimited,
        match=r"^the request has 1001 tokens, including those of its answer \(max_tokens\); the limit is ",
    ) as refused:
        await counted.reserve(ann, 1, 0, 1000)
    assert refused.value.headers["x-ratelimit-remaining-tokens"] == "290"


async def test_an_answer_that_the_client_does_not_bound_reserves_a_usual_one(
    limits: Make, url: str | None
) -> None:
    counted = limits(url)
    few, many = caller("few", tokens_per_minute=100), caller("many", tokens_per_minute=10**6)
    assert (await counted.reserve(few, 30, 0, 4000, bounded=False)).tokens == 30 + 25
    assert (await counted.reserve(few, 30, 0, 10, bounded=False)).tokens == 30 + 10
    assert (await counted.reserve(many, 30, 0, 4000, bounded=False)).tokens == 30 + 1024


async def test_a_debt_counts_whole(limits: Make, url: str | None) -> None:
    counted = limits(url)
    ann = caller("ann", tokens_per_minute=100)
    reserved = await counted.reserve(ann, 60, 0, 0)
    await counted.settle(ann, reserved.tokens, 60, 1000)  # an answer is never cut for it
    with pytest.raises(RateLimited, match=r"^the limit is 100 tokens per minute; 0 are left") as refused:
        await counted.request(ann)
    assert 576 < refused.value.retry_after < 637  # 1,060 tokens are those of more than ten minutes
    assert refused.value.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_a_refused_request_counts_nothing(limits: Make, url: str | None) -> None:
    counted = limits(url)
    ben = caller("ben", tokens_per_minute=100, images_per_minute=2)
    await counted.reserve(ben, 10, 2, 0)
    with pytest.raises(
        RateLimited, match=r"^the limit is 2 images per minute; 0 are left and the request needs 1$"
    ):
        await counted.reserve(ben, 10, 1, 0)
    with pytest.raises(RateLimited, match=r"^the request has 3 images; the limit is 2 per minute$"):
        await counted.reserve(ben, 10, 3, 0)
    assert (await counted.reserve(ben, 10, 0, 0)).windows["tokens"].left == 80


async def test_a_refusal_says_what_is_left_of_each_limit(limits: Make, url: str | None) -> None:
    counted = limits(url)
    ann = caller("ann", requests_per_minute=1, tokens_per_minute=100, images_per_minute=2)
    assert (await counted.request(ann))["x-ratelimit-reset-tokens"] == "0.000s"
    await counted.reserve(ann, 60, 0, 0)
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


@each("seed", range(200))
def test_who_is_refused_is_told_the_moment_from_which_there_is_room(seed: int) -> None:
    lot = random.Random(seed)
    limit = lot.randint(1, 1000)
    before, now = lot.randint(0, limit), lot.randint(0, limit * lot.choice((1, 5)))  # a debt, too
    amount = lot.randint(1, limit)
    window = Window(limit, before, now, lot.uniform(0.1, 60))
    wait = window.seconds_until(amount)
    assert left_after(window, wait) >= amount
    if wait > 0.01:
        assert left_after(window, wait - 0.005) < amount
    assert left_after(window, window.reset) == limit


def left_after(window: Window, seconds: float) -> int:
    """Return what is left that much later."""
    while seconds >= window.ends:
        seconds -= window.ends
        window = window.later(1)
    return replace(window, ends=window.ends - seconds).left


async def test_memory_and_redis_count_alike(redis: str) -> None:
    """The script is a second writing of `counts` and `window`: the same calls come to the same counts."""
    lot = random.Random(5)
    shared = RedisCounts(redis, 10.0)
    try:
        for number in range(40):
            name, limit = f"alike-{time.monotonic_ns()}", lot.randint(1, 50)
            before, now, minutes = lot.randint(0, limit), lot.randint(0, 3 * limit), lot.randint(0, 3)
            here = MemoryCounts(lambda: 60.0 * minutes)  # noqa: B023  # called before the next
            here._callers[name] = {"tokens": (0, Window(limit, before, now))}
            await shared._redis.hset(
                PREFIX + name, "tokens", f"{int(time.time() // 60) - minutes} {before} {now}"
            )
            asks = [Ask("tokens", limit, lot.randint(-limit, limit), lot.choice((None, 1, limit)))]
            ours, theirs = await here.take(name, asks), await shared.take(name, asks)
            # Redis has its own time within the minute; what is refused depends on it.
            if asks[0].needed is None:
                assert replace(theirs.windows[0], ends=60) == ours.windows[0], number
    finally:
        await shared.close()


async def test_a_call_takes_as_long_with_many_addresses_as_with_few() -> None:
    ask = Ask("requests", 10, 1, 1)

    async def counting(addresses: int) -> Callable[[], Awaitable[None]]:
        counts = MemoryCounts()

        async def take(number: int) -> None:
            for at in range(number):
                await counts.take(f"address:{at}", [ask])

        await take(addresses)
        return lambda: take(100)

    await assert_ratio(await counting(1000), await counting(16_000), 4)


async def test_addresses_of_which_nothing_counts_any_more_are_forgotten() -> None:
    now = 0.0
    counts = MemoryCounts(lambda: now)
    await counts.take("debtor", [Ask("tokens", 10, 100)])
    for number in range(1000):
        await counts.take(f"address:{number}", [Ask("requests", 10, 1, 1)])
    assert len(counts) == 1001
    now = 180.0
    for _ in range(1000):
        await counts.take("ann", [Ask("requests", 10, 1)])
    assert len(counts) == 2
    assert (await counts.take("debtor", [Ask("tokens", 10, 0)])).windows[0].now == 70


@pytest.mark.parametrize(
    "url", ["nonsense", "http://x", "redis://:secret@127.0.0.1:port", "redis://[::1", ""]
)
def test_an_address_that_is_no_redis_is_told_at_the_start(url: str) -> None:
    problem = limits_problem(Settings(limits_url=url))
    assert problem is not None
    assert problem.startswith("GATEWAY_LIMITS_URL: expected redis://")
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


@pytest.fixture
async def far(redis: str) -> AsyncIterator["FarRedis"]:
    """A Redis that is a tenth of a second away."""
    proxy = FarRedis(urlsplit(redis).port or 0)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield proxy
    server.close()


class FarRedis:
    """Passes on what is sent to a Redis, after a while, and counts how many times a client waits for it."""

    url: str

    def __init__(self, port: int) -> None:
        self._port = port
        self.trips = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(self._back(to_reader, writer))
        while data := await reader.read(2**20):
            self.trips += 1
            await asyncio.sleep(0.1)
            to_writer.write(data)
        to_writer.close()
        await back

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**20):
            writer.write(data)
        writer.close()


async def test_a_request_makes_one_round_trip_whatever_its_limits(limits: Make, far: FarRedis) -> None:
    counted = limits(far.url)
    ann = caller("ann", requests_per_minute=10, tokens_per_minute=1000, images_per_minute=10)
    await counted.request(ann)
    assert far.trips == 1
    await counted.reserve(ann, 10, 1, 100)
    assert far.trips == 2
    await counted.settle(ann, 110, 10, 20)
    assert far.trips == 3


@pytest.mark.parametrize("unreachable", ["allow", "refuse"])
async def test_many_requests_at_once_neither_switch_the_limits_off_nor_the_service(
    limits: Make, far: FarRedis, unreachable: str
) -> None:
    counted = limits(far.url, unreachable)
    eve, ann = caller("eve", requests_per_minute=10), caller("ann", requests_per_minute=10)
    flood = asyncio.gather(*(counted.request(eve) for _ in range(1000)), return_exceptions=True)
    await asyncio.sleep(0)
    assert (await counted.request(ann))["x-ratelimit-remaining-requests"] == "9"
    outcomes = await flood
    assert sum(isinstance(outcome, dict) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 990
    assert far.connections <= 8
    assert unchecked(counted) == {}


def unchecked(counted: Limits) -> dict[str, float]:
    samples = next(iter(counted._metrics.limits_unchecked.collect())).samples
    return {sample.labels["reason"]: sample.value for sample in samples if sample.value}


async def test_a_key_of_a_wrong_type_is_loud_and_touches_its_caller_alone(limits: Make, redis: str) -> None:
    lenient, strict = limits(redis), limits(redis, "refuse")
    eve, ann = caller("eve", requests_per_minute=2), caller("ann", requests_per_minute=3)
    await strict._counts._redis.set(PREFIX + eve.name, "x")  # type: ignore[attr-defined]
    calls = [call.request(who) for call in (lenient, strict) for who in (eve, ann, eve)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)  # in one round trip
    passed = [isinstance(outcome, dict) for outcome in outcomes]
    assert passed == [True, True, True, False, True, False]
    assert isinstance(outcomes[3], Unavailable)
    assert (await lenient.request(ann))["x-ratelimit-remaining-requests"] == "0"
    assert unchecked(lenient) == unchecked(strict) == {"wrong_type": 2}


async def test_a_wrong_password_is_no_redis_that_is_away(limits: Make, tmp_path: Path) -> None:
    url, process = start_redis(free_port(), tmp_path, "--requirepass", "right")
    try:
        ann = caller("ann", requests_per_minute=2)
        for given in (url, url.replace("//", "//:wrong@")):
            counted = limits(given)
            for _ in range(3):
                await counted.request(ann)
            assert unchecked(counted) == {"authentication": 3}
        counted = limits(url.replace("//", "//:right@"))
        assert (await counted.request(ann))["x-ratelimit-remaining-requests"] == "1"
    finally:
        process.terminate()
        process.wait(10)


async def test_who_has_no_limits_is_not_counted(limits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = limits()
    monkeypatch.setattr(counted._counts, "take", None)
    ann = caller("ann")
    assert await counted.request(ann) == {}
    assert await counted.reserve(ann, 10**9, 10**9, 10**9) == Reservation(0, {})
    await counted.settle(ann, 0, 10**9, 10**9)
