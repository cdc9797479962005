"""Tickets: as many as set, first come first served, none lost and none given twice, whoever leaves when."""

import asyncio
import random
from contextlib import AbstractAsyncContextManager

import pytest

from gateway.access.admission import Admission
from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.errors import Overloaded
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

ANN = Caller("ann", "", CallerClass())


class Desk:
    """An admission and those who asked it for a ticket, by name."""

    def __init__(self, running: int, waiting: int, wait: float = 30) -> None:
        self.metrics = Metrics()
        settings = Settings(max_running=running, max_waiting=waiting, max_wait=wait)
        self.admission = Admission(settings, self.metrics, engine_permits=100)
        self.served: list[str] = []
        self.inside = 0
        self.most = 0

    async def visit(self, name: str, leave: asyncio.Event) -> None:
        async with self.admission.queue_permit(ANN):
            self.served.append(name)
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                await leave.wait()
            finally:
                self.inside -= 1

    async def seated(self) -> None:
        async with self.admission.engine_permits(ANN, 1, 1):
            pass

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)

    @property
    def ticket(self) -> AbstractAsyncContextManager[None]:
        return self.admission.queue_permit(ANN)


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    desk = Desk(running=1, waiting=10)
    doors = {name: asyncio.Event() for name in "abcde"}
    visits = []
    for name, door in doors.items():
        visits.append(asyncio.create_task(desk.visit(name, door)))
        await turns()
    for served, name in enumerate(doors, 1):
        assert desk.served == list("abcde")[:served]
        doors[name].set()
        await turns()
    await asyncio.gather(*visits)
    assert desk.served == list("abcde")


async def test_nobody_overtakes_those_who_wait() -> None:
    desk = Desk(running=1, waiting=10)
    first, rest = asyncio.Event(), asyncio.Event()
    visits = [
        asyncio.create_task(desk.visit("first", first)),
        asyncio.create_task(desk.visit("second", rest)),
    ]
    await turns()
    first.set()
    await turns(1)
    visits.append(
        asyncio.create_task(desk.visit("third", rest))
    )  # comes in the moment when a ticket is given back
    await turns()
    assert desk.served == ["first", "second"]
    rest.set()
    await asyncio.gather(*visits)


async def test_as_many_run_and_wait_as_set() -> None:
    desk = Desk(running=3, waiting=2)
    door = asyncio.Event()
    visits = [asyncio.create_task(desk.visit(str(number), door)) for number in range(5)]
    await turns()
    assert desk.served == ["0", "1", "2"]
    assert (desk.gauge("gateway_in_flight"), desk.gauge("gateway_waiting")) == (3, 2)
    with pytest.raises(Overloaded, match=r"^2 requests are waiting; the limit is 2$") as caught:
        await desk.visit("sixth", door)
    assert caught.value.retry_after == 1
    door.set()
    await asyncio.gather(*visits)
    assert (desk.gauge("gateway_in_flight"), desk.gauge("gateway_waiting")) == (0, 0)
    assert desk.gauge("gateway_waiting_seconds_count") == 5


async def test_none_may_wait_where_none_is_allowed_to() -> None:
    desk = Desk(running=1, waiting=0)
    async with desk.ticket:
        with pytest.raises(Overloaded):
            await desk.ticket.__aenter__()
    async with desk.ticket:
        pass


async def test_wait_that_is_too_long_ends_and_its_place_is_free() -> None:
    desk = Desk(running=1, waiting=1, wait=0.05)
    async with desk.ticket:
        for _ in range(2):
            with pytest.raises(Overloaded, match=r"^no capacity became free within 0\.05 s$"):
                await desk.ticket.__aenter__()
            assert desk.gauge("gateway_waiting") == 0
    async with desk.ticket:
        assert desk.gauge("gateway_in_flight") == 1


async def test_ticket_is_given_back_when_its_holder_fails() -> None:
    desk = Desk(running=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with desk.ticket:
                raise ZeroDivisionError
    assert desk.gauge("gateway_in_flight") == 0


async def test_ticket_that_comes_as_its_waiter_leaves_goes_to_the_next() -> None:
    desk = Desk(running=1, waiting=2)
    first, rest = asyncio.Event(), asyncio.Event()
    visits = {
        name: asyncio.create_task(desk.visit(name, door))
        for name, door in (("a", first), ("b", rest), ("c", rest))
    }
    await turns()
    first.set()
    while not visits["a"].done():  # noqa: ASYNC110  # the very turn of the loop matters
        await asyncio.sleep(0)
    visits["b"].cancel()  # has the ticket, and does not know it yet
    await turns()
    assert visits["b"].cancelled()
    assert desk.served == ["a", "c"]
    rest.set()
    await visits["c"]
    async with desk.ticket:
        pass


@pytest.mark.parametrize("seed", range(20))
async def test_no_ticket_is_lost_or_doubled_whoever_leaves_when(seed: int) -> None:
    lot = random.Random(seed)
    running = lot.randint(1, 4)
    desk = Desk(running, waiting=lot.randint(0, 8), wait=lot.choice([0.001, 0.01, 30]))
    visits: list[asyncio.Task[None]] = []
    doors: list[asyncio.Event] = []
    for number in range(300):
        match lot.randrange(4):
            case 0 | 1:
                doors.append(asyncio.Event())
                visits.append(asyncio.create_task(desk.visit(str(number), doors[-1])))
            case 2 if visits:
                lot.choice(visits).cancel()
            case 3 if doors:
                lot.choice(doors).set()
        await asyncio.sleep(lot.choice([0, 0, 0, 0.0005]))
        assert desk.inside <= running
    for door in doors:
        door.set()
    ends = await asyncio.gather(*visits, return_exceptions=True)
    assert {type(end) for end in ends} <= {type(None), Overloaded, asyncio.CancelledError}
    assert desk.most == running
    assert (desk.inside, desk.gauge("gateway_in_flight"), desk.gauge("gateway_waiting")) == (0, 0, 0)

    # All tickets are back: so many can be had at once, and not one more.
    door = asyncio.Event()
    last = [asyncio.create_task(desk.visit("last", door)) for _ in range(running + 1)]
    await turns()
    assert desk.inside == running
    door.set()
    await asyncio.gather(*last, return_exceptions=True)


async def test_wait_for_a_seat_is_shown_and_counted() -> None:
    desk = Desk(running=10, waiting=10)
    async with desk.admission.engine_permits(ANN, 80, 1):  # all that one caller may have of 100
        waiting = asyncio.create_task(desk.seated())
        given_up = asyncio.create_task(desk.seated())
        await turns()
        assert desk.gauge("gateway_waiting_for_engine") == 2
        given_up.cancel()
        await turns()
        assert desk.gauge("gateway_waiting_for_engine") == 1
        await asyncio.sleep(0.05)
    await waiting
    assert desk.gauge("gateway_waiting_for_engine") == 0
    assert desk.gauge("gateway_engine_waiting_seconds_count") == 2
    assert 0.05 <= (desk.gauge("gateway_engine_waiting_seconds_sum") or 0) < 10
