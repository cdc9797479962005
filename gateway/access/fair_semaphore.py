"""A fair semaphore with a bounded queue: callers take permits, and wait if none is free.

The caller that holds least for its weight is served first, so a flood delays only its sender; ties go to the
caller served longest ago. The last `reserve` permits are for callers that hold none, so that one caller
cannot lock out the others.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil

from gateway.access.callers import Caller
from gateway.access.priority_queue import PriorityQueue
from gateway.errors import Overloaded

MEASURED = 64  # the release rate is measured over this many releases
LONGEST_RETRY = 60  # seconds
PASSED_BY = 64  # waiting callers examined for one whose request fits into the free permits


@dataclass(slots=True, eq=False)
class _Waiter:
    caller: Caller
    amount: int
    cost: int
    number: int
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class Permit:
    """Held permits; unneeded ones may be released early."""

    _semaphore: "FairSemaphore"
    _caller: Caller
    amount: int
    cost: int

    def keep(self, amount: int) -> None:
        """Release all but `amount`."""
        if (spare := self.amount - amount) > 0:
            cheaper = self.cost * spare // self.amount
            self.amount = amount
            self.cost -= cheaper
            self._semaphore._give_back(self._caller, spare, cheaper)  # noqa: SLF001  # its own handle

    def release(self) -> None:
        """Release all permits that are still held."""
        if self.amount:
            self._semaphore._note_release()  # noqa: SLF001  # its own handle
            self.keep(0)


class FairSemaphore:
    """Fair semaphore with `total` permits; at most `max_waiting` requests wait, each up to `max_wait` s.

    With `allow_all`, a caller that holds none may take all permits at once, including the reserve.
    """

    def __init__(
        self, total: int, *, reserve: int, max_waiting: int, max_wait: float, allow_all: bool = False
    ) -> None:
        self._allow_all = allow_all
        self._free = self._total = total
        self._reserve = reserve
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._held: Counter[str] = Counter()
        self._cost: Counter[str] = Counter()  # of what is held
        self._queues: dict[str, OrderedDict[int, _Waiter]] = {}  # by the caller's name, then by number
        self._next = PriorityQueue()  # waiting callers, the next to be served first
        self._longest = PriorityQueue()  # waiting callers, the one with the most requests first
        self._waiting = 0
        self._number = 0
        self._served: dict[str, int] = {}  # when each caller that holds or waits was last served, in takings
        self._takings = 0
        self._released: deque[float] = deque(maxlen=MEASURED)  # on the clock below
        # Runs only while a request waits: otherwise the release rate only reflects the arrival rate.
        self._waited = 0.0
        self._waiting_since = 0.0

    @property
    def total(self) -> int:
        return self._total

    @property
    def taken(self) -> int:
        """The number of permits that are held."""
        return self._total - self._free

    @property
    def waiting(self) -> int:
        return self._waiting

    def held(self, caller: Caller) -> int:
        """Return how many permits `caller` holds."""
        return self._held[caller.name]

    def cost(self, caller: Caller) -> int:
        """Return the summed cost of the permits that `caller` holds."""
        return self._cost[caller.name]

    def under_way(self, caller: Caller) -> int:
        """Return the permits that `caller` holds plus its waiting requests."""
        return self._held[caller.name] + len(self._queues.get(caller.name, ()))

    @asynccontextmanager
    async def hold(self, caller: Caller, amount: int = 1, cost: int | None = None) -> AsyncIterator[Permit]:
        """Hold `amount` permits while the block runs. Raises what `take` raises."""
        permit = await self.take(caller, amount, cost)
        try:
            yield permit
        finally:
            permit.release()

    async def take(self, caller: Caller, amount: int = 1, cost: int | None = None) -> Permit:
        """Take `amount` permits; the caller must release them. Taking 0 never waits.

        The cost decides who is served next, not how many can be held. Raises Overloaded if the queue is
        full or the wait is too long.
        """
        amount = min(amount, self.most)
        cost = amount if cost is None else cost
        if amount and (self._waiting or not self._fits(caller, amount)):
            await self._wait(_Waiter(caller, amount, cost, self._number))
        elif amount:
            self._take(caller, amount, cost)
        return Permit(self, caller, amount, cost)

    @property
    def most(self) -> int:
        """The number of permits that one request can take."""
        return self._total - (0 if self._allow_all else self._reserve)

    def retry_after(self) -> int:
        """Return in how many seconds the current queue will be served, at the recent release rate."""
        if len(self._released) < 2:  # noqa: PLR2004  # a rate needs two
            return 1
        seconds = max(0.001, self._clock() - self._released[0])
        return min(LONGEST_RETRY, max(1, ceil(self._waiting * seconds / len(self._released))))

    def _clock(self) -> float:
        return self._waited + (time.monotonic() - self._waiting_since if self._waiting else 0.0)

    def _note_release(self) -> None:
        if self._waiting:
            self._released.append(self._clock())

    def _count_waiting(self, more: int) -> None:
        self._waited = self._clock()
        self._waiting_since = time.monotonic()
        self._waiting += more

    def _fits(self, caller: Caller, amount: int) -> bool:
        spare = self._reserve if self._held[caller.name] else 0
        return self._free - amount >= spare

    def _take(self, caller: Caller, amount: int, cost: int) -> None:
        self._free -= amount
        self._held[caller.name] += amount
        self._cost[caller.name] += cost
        self._takings += 1
        self._served[caller.name] = self._takings
        self._reorder(caller.name)

    def _give_back(self, caller: Caller, amount: int, cost: int) -> None:
        self._free += amount
        self._held[caller.name] -= amount
        self._cost[caller.name] -= cost
        if not self._held[caller.name]:
            del self._held[caller.name]
            del self._cost[caller.name]
        self._reorder(caller.name)
        self._grant()

    async def _wait(self, asked: _Waiter) -> None:
        if self._waiting >= self._max_waiting:
            self._evict_newest(asked.caller)
        self._number += 1
        self._queues.setdefault(asked.caller.name, OrderedDict())[asked.number] = asked
        self._count_waiting(1)
        self._reorder(asked.caller.name)
        self._grant()
        try:
            async with asyncio.timeout(self._max_wait):
                await asked.granted
        except BaseException as error:
            if asked.granted.done() and not asked.granted.cancelled() and not asked.granted.exception():
                # The permits were granted just as the wait ended: pass them on.
                self._give_back(asked.caller, asked.amount, asked.cost)
            else:
                self._forget(asked)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"no capacity became free within {self._max_wait:g} s", retry_after=self.retry_after()
                ) from None
            raise

    def _evict_newest(self, caller: Caller) -> None:
        """Evict the newest request of the caller with the most waiting; refuse `caller` if that is itself."""
        name = self._longest.first()
        most = self._queues[name] if name else {}
        mine = len(self._queues.get(caller.name, ()))
        full = Overloaded(
            f"{self._waiting} requests are waiting; the limit is {self._max_waiting}",
            retry_after=self.retry_after(),
        )
        if len(most) <= mine + 1:
            raise full
        newest = most[next(reversed(most))]
        self._forget(newest)
        # If its client has just left, removing it from the queue is enough.
        if not newest.granted.done():
            newest.granted.set_exception(full)

    def _forget(self, asked: _Waiter) -> None:
        if asked.number in self._queues.get(asked.caller.name, ()):
            self._leave_queue(asked)
            self._grant()

    def _leave_queue(self, asked: _Waiter) -> None:
        name = asked.caller.name
        queue = self._queues[name]
        del queue[asked.number]
        self._count_waiting(-1)
        if not queue:
            del self._queues[name]
        self._reorder(name)

    def _grant(self) -> None:
        """Grant free permits to waiting requests; the caller that holds least comes first."""
        passed_by: list[str] = []
        while name := self._next.first():
            asked = next(iter(self._queues[name].values()))
            if self._fits(asked.caller, asked.amount):
                if not asked.granted.done():  # just cancelled
                    self._take(asked.caller, asked.amount, asked.cost)
                    asked.granted.set_result(None)
                self._leave_queue(asked)
                continue
            if not self._held[name]:
                break  # The next in line needs more than is free: others must not overtake it.
            if self._free <= self._reserve or len(passed_by) == PASSED_BY:
                break  # Only the reserve is left; it is for callers that hold none.
            passed_by.append(name)
            self._next.drop(name)
        for name in passed_by:
            self._reorder(name)

    def _reorder(self, name: str) -> None:
        """Update the caller's position in the queues, and forget a caller that neither holds nor waits."""
        if (queue := self._queues.get(name)) is None:
            self._next.drop(name)
            self._longest.drop(name)
            if name not in self._held:
                self._served.pop(name, None)
            return
        first = next(iter(queue.values()))
        cost = self._cost[name] / first.caller.caller_class.weight
        self._next.put(name, (cost, self._served.get(name, 0), first.number))
        self._longest.put(name, (-len(queue), first.number))
