"""Places are shared fairly: a caller's flood waits behind itself, and the last places are for others."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from gateway.access.callers import Caller
from gateway.access.fair_semaphore import FairSemaphore
from gateway.access.keys import CallerClass
from gateway.errors import Overloaded
from tests.growth import assert_linear


def caller(name: str, weight: float = 1.0) -> Caller:
    return Caller(name, name, CallerClass(weight=weight))


ANN, BEN, EVE = caller("ann"), caller("ben"), caller("eve")


class Room:
    """FairSemaphore, and who has been let in."""

    def __init__(self, total: int, reserve: int = 0, waiting: int = 100, wait: float = 30) -> None:
        self.shares = FairSemaphore(total, reserve=reserve, max_waiting=waiting, max_wait=wait)
        self.inside: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(
        self, who: Caller, amount: int = 1, times: int = 1, cost: int | None = None
    ) -> list[asyncio.Event]:
        """Have `who` ask for `amount` places `times` times; return what lets each of them leave."""
        doors = [asyncio.Event() for _ in range(times)]
        self.tasks += [asyncio.create_task(self._stay(who, amount, cost, door)) for door in doors]
        await turns()
        return doors

    async def _stay(self, who: Caller, amount: int, cost: int | None, door: asyncio.Event) -> None:
        async with self.shares.hold(who, amount, cost):
            self.inside.append(who.name)
            await door.wait()
            self.inside.remove(who.name)

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()


@pytest.fixture
def rooms() -> Iterator[list[Room]]:
    made: list[Room] = []
    yield made
    for room in made:
        room.close()


async def turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_who_holds_least_comes_next() -> None:
    room = Room(4)
    floods = await room.ask(EVE, times=10)
    (ann,) = await room.ask(ANN)
    assert room.inside == ["eve"] * 4
    floods[0].set()
    await turns()
    assert sorted(room.inside) == ["ann", "eve", "eve", "eve"]
    ann.set()
    await turns()
    assert room.inside == ["eve"] * 4
    room.close()


async def test_the_last_places_are_for_who_holds_none() -> None:
    room = Room(10, reserve=2)
    await room.ask(EVE, times=30)
    assert room.inside == ["eve"] * 8
    await room.ask(ANN)
    await room.ask(BEN)
    assert sorted(room.inside) == ["ann", "ben", *["eve"] * 8]
    room.close()


async def test_of_as_many_places_the_cheaper_count_less(rooms: list[Room]) -> None:
    room = Room(3)
    rooms.append(room)
    await room.ask(EVE, cost=4000)
    await room.ask(ANN, cost=10)
    (ben,) = await room.ask(BEN)
    await room.ask(EVE, cost=10)
    await room.ask(ANN, cost=4000)
    ben.set()
    await turns()
    assert sorted(room.inside) == ["ann", "ann", "eve"]  # though eve asked and was served before


async def test_what_is_given_back_no_longer_costs() -> None:
    shares = FairSemaphore(10, reserve=0, max_waiting=1, max_wait=1)
    async with shares.hold(EVE, 4, cost=1001) as holding:
        assert shares.cost(EVE) == 1001
        holding.keep(1)
        assert shares.cost(EVE) == 251
        async with shares.hold(EVE, 2):
            assert shares.cost(EVE) == 253
    assert shares.cost(EVE) == 0


async def test_weight_is_a_share() -> None:
    room = Room(9)
    await room.ask(caller("heavy", 2.0), times=20)
    light = await room.ask(caller("light"), times=20)
    assert room.inside == ["heavy"] * 9
    for task in room.tasks[:9]:
        task.cancel()
    await turns(30)
    room.inside = [name for name in room.inside if name]
    held = {name: room.shares.held(caller(name)) for name in ("heavy", "light")}
    assert held == {"heavy": 6, "light": 3}
    assert len(light) == 20
    room.close()


async def test_who_needs_many_is_not_passed_by_forever() -> None:
    room = Room(8)
    first = await room.ask(EVE, times=8)
    await room.ask(ANN, amount=6)
    await room.ask(EVE, times=8)
    for door in first[:5]:
        door.set()
        await turns()
    assert "ann" not in room.inside
    assert room.inside.count("eve") == 3  # nobody took what is being kept for ann
    first[5].set()
    await turns()
    assert room.inside.count("ann") == 1
    room.close()


async def test_a_full_queue_sends_away_the_one_who_fills_it() -> None:
    room = Room(1, waiting=4)
    await room.ask(EVE, times=5)
    assert room.shares.waiting == 4
    await room.ask(ANN)
    assert room.shares.waiting == 4
    (refused,) = [task for task in room.tasks if task.done()]
    assert isinstance(refused.exception(), Overloaded)
    assert refused is room.tasks[4]  # eve's newest
    with pytest.raises(Overloaded, match=r"^4 requests are waiting; the limit is 4$"):
        async with room.shares.hold(EVE):
            pass
    room.close()


async def test_a_client_that_leaves_a_full_queue_makes_room_in_the_same_moment(rooms: list[Room]) -> None:
    room = Room(1, waiting=2)
    rooms.append(room)
    (inside, *_) = await room.ask(EVE, times=3)
    room.tasks[2].cancel()  # eve's newest has not heard of it yet when ann comes
    asyncio.get_running_loop().call_soon(inside.set)
    (await room.shares.take(ANN)).release()
    await turns()
    assert room.inside == ["eve"]


async def test_more_than_there_is_is_taken_for_all_there_is() -> None:
    room = Room(10, reserve=2)
    await room.ask(EVE, amount=16)
    assert room.shares.held(EVE) == 8
    room.close()


async def test_retry_after_is_the_time_that_the_queue_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.access.fair_semaphore.time", SimpleNamespace(monotonic=lambda: now))
    room = Room(1, waiting=30)
    assert room.shares.retry_after() == 1
    for door in (await room.ask(EVE, times=31))[:10]:
        now += 0.5  # two a second
        door.set()
        await turns()
    now += 0.5
    assert room.shares.waiting == 20
    assert room.shares.retry_after() == 10
    room.close()


async def test_time_without_a_queue_is_not_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.access.fair_semaphore.time", SimpleNamespace(monotonic=lambda: now))
    room = Room(1, waiting=40)
    for door in await room.ask(EVE, times=11):
        now += 0.5
        door.set()
        await turns()
    for _ in range(100):  # an hour of single requests
        now += 36
        async with room.shares.hold(ANN):
            pass
    await room.ask(EVE, times=41)
    assert room.shares.waiting == 40
    assert room.shares.retry_after() == 18  # 40 after the 10 that ended in 4.5 s with a queue behind them
    room.close()


async def test_what_was_given_back_early_counts_once_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.access.fair_semaphore.time", SimpleNamespace(monotonic=lambda: now))
    room = Room(1, waiting=30)

    async def stay(door: asyncio.Event) -> None:
        async with room.shares.hold(ANN) as holding:
            await door.wait()
            holding.release()

    doors = [asyncio.Event() for _ in range(31)]
    room.tasks += [asyncio.create_task(stay(door)) for door in doors]
    await turns()
    for door in doors[:10]:
        now += 0.5  # two a second
        door.set()
        await turns()
    now += 0.5
    assert room.shares.retry_after() == 10
    room.close()


async def test_who_asks_for_no_place_does_not_wait(rooms: list[Room]) -> None:
    room = Room(4)
    rooms.append(room)
    await room.ask(EVE, amount=4)
    await room.ask(BEN, amount=2)
    await room.ask(ANN, amount=0)
    assert room.inside == ["eve", "ann"]


async def test_nothing_is_remembered_of_callers_who_asked_for_no_place() -> None:
    shares = FairSemaphore(4, reserve=0, max_waiting=1, max_wait=1)
    tracemalloc.start()
    try:
        for number in range(10_000):
            async with shares.hold(caller(f"address:{number}"), 0):
                pass
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000, "bytes"


async def test_of_callers_who_hold_nothing_the_one_served_longest_ago_comes_next(rooms: list[Room]) -> None:
    room = Room(1)
    rooms.append(room)
    first, second, third = await room.ask(EVE, times=3)
    (anns,) = await room.ask(ANN)
    first.set()
    await turns()
    assert room.inside == ["ann"]
    anns.set()
    await turns()
    assert room.inside == ["eve"]
    second.set()
    third.set()
    await turns()
    assert room.shares._served == {}  # nobody is kept who has left


@pytest.mark.parametrize("full", [False, True], ids=["waiting", "sent away"])
async def test_eight_times_as_many_callers_who_wait_take_about_eight_times_as_long(full: bool) -> None:
    async def stay(shares: FairSemaphore, who: Caller) -> None:
        with suppress(Overloaded):
            (await shares.take(who)).release()

    async def wait(number: int) -> None:
        """Let so many callers wait for one place, one after the other."""
        shares = FairSemaphore(1, reserve=0, max_waiting=number if full else 2 * number, max_wait=100)
        holding = await shares.take(EVE)
        # Where the queue is full, each of the second half sends one of the first half's away.
        asked = [caller(f"caller-{at // 2 if at < number else at}") for at in range(2 * number)]
        tasks = [asyncio.create_task(stay(shares, who)) for who in asked]
        await asyncio.sleep(0)
        holding.release()
        await asyncio.gather(*tasks)

    await assert_linear(wait, 200)
