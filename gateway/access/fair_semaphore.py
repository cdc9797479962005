"""A number of places, shared fairly between callers who each ask for some, and wait where none is free.

The caller who holds least for its weight comes next, of several the one who was served longest ago, so a
caller's own flood waits behind itself. The last `reserve` places are only for callers who hold none: a caller
who has taken all others keeps nobody out.
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

MEASURED = 64  # releases that the rate is measured over
LONGEST_RETRY = 60  # seconds
PASSED_BY = 64  # callers who hold some and need more than is free: so many are looked at for one who fits


@dataclass(slots=True, eq=False)
class _Asked:
    caller: Caller
    amount: int
    cost: int
    number: int
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class Permit:
    """Places that are held; those not needed may be given back before the others."""

    _shares: "FairSemaphore"
    _caller: Caller
    amount: int
    cost: int

    def keep(self, amount: int) -> None:
        """Give back all but `amount`."""
        if (spare := self.amount - amount) > 0:
            cheaper = self.cost * spare // self.amount
            self.amount = amount
            self.cost -= cheaper
            self._shares._give_back(self._caller, spare, cheaper)  # noqa: SLF001  # its own handle

    def release(self) -> None:
        """Give back all that is left, if anything is."""
        if self.amount:
            self._shares._note_release()  # noqa: SLF001  # its own handle
            self.keep(0)


class FairSemaphore:
    """`total` places; at most `max_waiting` may wait for some, each at most `max_wait` seconds.

    With `whole`, one request may have all places, the reserve among them, if its caller holds none.
    """

    def __init__(
        self, total: int, *, reserve: int, max_waiting: int, max_wait: float, whole: bool = False
    ) -> None:
        self._whole = whole
        self._free = self._total = total
        self._reserve = reserve
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._held: Counter[str] = Counter()
        self._cost: Counter[str] = Counter()  # of what is held
        self._queues: dict[str, OrderedDict[int, _Asked]] = {}  # by the caller's name, then by number
        self._next = PriorityQueue()  # of those who wait, by who comes next
        self._longest = PriorityQueue()  # of those who wait, by how often
        self._waiting = 0
        self._number = 0
        self._served: dict[str, int] = {}  # of callers who hold or wait: when, in takings
        self._takings = 0
        self._released: deque[float] = deque(maxlen=MEASURED)  # on the clock below
        # Runs while somebody waits: at other times as much work ends as comes, which is no rate.
        self._waited = 0.0
        self._waiting_since = 0.0

    @property
    def total(self) -> int:
        return self._total

    @property
    def taken(self) -> int:
        """How many places are held."""
        return self._total - self._free

    @property
    def waiting(self) -> int:
        return self._waiting

    def held(self, caller: Caller) -> int:
        """Return how many places `caller` holds."""
        return self._held[caller.name]

    def cost(self, caller: Caller) -> int:
        """Return what the places that `caller` holds cost."""
        return self._cost[caller.name]

    def under_way(self, caller: Caller) -> int:
        """Return how many places `caller` holds and how many times it waits for some, together."""
        return self._held[caller.name] + len(self._queues.get(caller.name, ()))

    @asynccontextmanager
    async def hold(self, caller: Caller, amount: int = 1, cost: int | None = None) -> AsyncIterator[Permit]:
        """Hold `amount` places while the block runs. Raises what `take` raises."""
        holding = await self.take(caller, amount, cost)
        try:
            yield holding
        finally:
            holding.release()

    async def take(self, caller: Caller, amount: int = 1, cost: int | None = None) -> Permit:
        """Return `amount` places, to be released; asking for none never waits.

        What they cost says who comes next, not how many can be held. Raises Overloaded where the queue is
        full or the wait too long.
        """
        amount = min(amount, self.most)
        cost = amount if cost is None else cost
        if amount and (self._waiting or not self._fits(caller, amount)):
            await self._wait(_Asked(caller, amount, cost, self._number))
        elif amount:
            self._take(caller, amount, cost)
        return Permit(self, caller, amount, cost)

    @property
    def most(self) -> int:
        """How many places one request can have."""
        return self._total - (0 if self._whole else self._reserve)

    def retry_after(self) -> int:
        """Return in how many seconds those who wait now will have been served, at the recent rate."""
        if len(self._released) < 2:  # noqa: PLR2004  # no rate without two
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

    async def _wait(self, asked: _Asked) -> None:
        if self._waiting >= self._max_waiting:
            self._make_room(asked.caller)
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
                # The places came in the same moment; they must not be lost with who asked for them.
                self._give_back(asked.caller, asked.amount, asked.cost)
            else:
                self._forget(asked)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"no slot became free within {self._max_wait:g} s", retry_after=self.retry_after()
                ) from None
            raise

    def _make_room(self, caller: Caller) -> None:
        """Send away the newest of the caller who waits most often, or `caller` where that is no other."""
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
        # Its client may have left in this very moment: then it is out of the queue, and that is all it takes.
        if not newest.granted.done():
            newest.granted.set_exception(full)

    def _forget(self, asked: _Asked) -> None:
        if asked.number in self._queues.get(asked.caller.name, ()):
            self._leave_queue(asked)
            self._grant()

    def _leave_queue(self, asked: _Asked) -> None:
        name = asked.caller.name
        queue = self._queues[name]
        del queue[asked.number]
        self._count_waiting(-1)
        if not queue:
            del self._queues[name]
        self._reorder(name)

    def _grant(self) -> None:
        """Give places to those who wait, the caller who holds least first, while there are some."""
        passed_by: list[str] = []
        while name := self._next.first():
            asked = next(iter(self._queues[name].values()))
            if self._fits(asked.caller, asked.amount):
                if not asked.granted.done():  # cancelled in this very moment
                    self._take(asked.caller, asked.amount, asked.cost)
                    asked.granted.set_result(None)
                self._leave_queue(asked)
                continue
            if not self._held[name]:
                break  # Who comes next needs more than is free: others must not take it away.
            if self._free <= self._reserve or len(passed_by) == PASSED_BY:
                break  # Nobody who holds some gets more.
            passed_by.append(name)
            self._next.drop(name)
        for name in passed_by:
            self._reorder(name)

    def _reorder(self, name: str) -> None:
        """Put the caller where it belongs now, and forget it where it neither holds nor waits."""
        if (queue := self._queues.get(name)) is None:
            self._next.drop(name)
            self._longest.drop(name)
            if name not in self._held:
                self._served.pop(name, None)
            return
        first = next(iter(queue.values()))
        cost = self._cost[name] / first.caller.klass.weight
        self._next.put(name, (cost, self._served.get(name, 0), first.number))
        self._longest.put(name, (-len(queue), first.number))
