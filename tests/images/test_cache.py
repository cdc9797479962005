"""What is kept, shared and rationed."""

import asyncio

import pytest
from PIL import Image

from gateway.engine.interface import Picture
from gateway.errors import ImageError
from gateway.images.cache import Flights, PictureCache

SIZE = 4 * 10 * 10


def picture(key: str) -> Picture:
    return Picture(Image.new("RGB", (10, 10)), key)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_cache_never_holds_more_than_its_bytes_and_forgets_the_least_recently_used() -> None:
    cache = PictureCache(3 * SIZE)
    for key in "abc":
        cache.put(picture(key))
    assert cache.get("a") is not None
    cache.put(picture("d"))
    assert cache.bytes == 3 * SIZE
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_putting_a_key_twice_counts_it_once() -> None:
    cache = PictureCache(3 * SIZE)
    cache.put(picture("a"))
    cache.put(picture("a"))
    assert cache.bytes == SIZE


@pytest.mark.parametrize("limit", [0, SIZE - 1])
def test_what_does_not_fit_is_not_kept(limit: int) -> None:
    cache = PictureCache(limit)
    cache.put(picture("a"))
    assert cache.get("a") is None
    assert cache.bytes == 0


class Work:
    """Work that ends when told, and notes how often it was begun and cancelled."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> Picture:
        self.begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return picture("a")


async def test_those_who_ask_for_the_same_wait_for_one_flight() -> None:
    flights, work = Flights(), Work()
    waiters = [asyncio.create_task(flights.join("a", work)) for _ in range(5)]
    await settle()
    work.may_end.set()
    pictures = await asyncio.gather(*waiters)
    assert work.begun == 1
    assert all(one is pictures[0] for one in pictures)
    assert "a" not in flights


async def test_one_who_leaves_does_not_fail_the_others() -> None:
    flights, work = Flights(), Work()
    leaves, stays = (asyncio.create_task(flights.join("a", work)) for _ in range(2))
    await settle()
    leaves.cancel()
    await settle()
    assert leaves.cancelled()
    work.may_end.set()
    assert (await stays).key == "a"
    assert work.cancelled == 0


async def test_with_the_last_one_the_work_is_cancelled_and_the_next_one_begins_anew() -> None:
    flights, work = Flights(), Work()
    waiters = [asyncio.create_task(flights.join("a", work)) for _ in range(2)]
    await settle()
    for waiter in waiters:
        waiter.cancel()
    await settle()
    assert work.cancelled == 1
    assert "a" not in flights
    work.may_end.set()
    assert (await flights.join("a", work)).key == "a"
    assert work.begun == 2


async def test_an_error_reaches_everybody_and_is_not_kept() -> None:
    flights = Flights()

    async def broken() -> Picture:
        await settle()
        raise ImageError("broken")

    results = await asyncio.gather(*(flights.join("a", broken) for _ in range(2)), return_exceptions=True)
    assert [str(result) for result in results] == ["broken", "broken"]
    assert "a" not in flights
