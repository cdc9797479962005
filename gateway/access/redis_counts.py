"""Rate-limit counters per caller, kept in a Redis that replicas share."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as TooLate

from gateway.access.counts import Ask, Counted
from gateway.access.window import Window

CONNECTIONS: Final = 8
CALLS: Final = 128  # per round trip, at most: calls that wait for a connection are sent together
PREFIX: Final = "llava-gateway:limits:"  # of Redis keys, before the caller's name
SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "unix": "unix", "redis+unix": "unix"}

# The same arithmetic as in `counts` and `window`, with the clock of Redis. A caller's key is a hash with a
# field "minute before now" for each kind of limit. Arguments: kind, limit, amount, and needed or "", of each
# ask. Result: the index of the refused ask, from 1, or 0; the milliseconds left of this minute; before and
# now of each ask.
SCRIPT: Final = """
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
local minute, ends = math.floor(ms / 60000), 60000 - ms % 60000
local answer, counted, refused = {}, {}, 0
for i = 1, #ARGV, 4 do
    local limit, needed = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 3])
    local stored = redis.call('HGET', KEYS[1], ARGV[i]) or ''
    local at, before, now = string.match(stored, '^(%d+) (%d+) (%d+)$')
    at, before, now = tonumber(at or minute), tonumber(before or 0), tonumber(now or 0)
    local passed = minute - at
    if passed > 0 then
        before = math.min(limit, math.max(0, now - (passed - 1) * limit))
        now = math.max(0, now - passed * limit)
    end
    local left = math.max(0, limit - math.floor(before * ends / 60000) - now)
    if refused == 0 and needed and left < needed then refused = (i + 3) / 4 end
    counted[#counted + 1] = {ARGV[i], limit, tonumber(ARGV[i + 2]), before, now}
end
local lasts = 0
for i, one in ipairs(counted) do
    local kind, limit, amount, before, now = unpack(one)
    if refused == 0 then
        now = now + amount
        before = math.max(0, before + math.min(0, now))
        now = math.max(0, now)
        redis.call('HSET', KEYS[1], kind, string.format('%.0f %.0f %.0f', minute, before, now))
        lasts = math.max(lasts, ends + 60000 * (1 + math.ceil(now / limit)))
    end
    answer[#answer + 1], answer[#answer + 2] = before, now
end
if lasts > redis.call('PTTL', KEYS[1]) then redis.call('PEXPIRE', KEYS[1], lasts) end
table.insert(answer, 1, ends)
table.insert(answer, 1, refused)
return answer
"""

_Call = tuple[str, list[str | int], asyncio.Future[list[int]]]


class RedisCounts:
    """Counts in Redis: one round trip for each call. Raises RedisError and OSError."""

    def __init__(self, url: str, timeout: float) -> None:
        pool = ConnectionPool.from_url(
            _plain(url),
            max_connections=CONNECTIONS,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # a retry would take as long again, and may count twice
            protocol=2,
            driver_info=None,  # else each connection begins with more round trips
        )
        self._redis = Redis.from_pool(pool)
        self._waiting: deque[_Call] = deque()
        self._trips: set[asyncio.Task[None]] = set()

    async def take(self, caller: str, asks: Sequence[Ask]) -> Counted:
        arguments: list[str | int] = []
        for ask in asks:
            arguments += (ask.kind, ask.limit, ask.amount, "" if ask.needed is None else ask.needed)
        refused, ends, *counted = await self._call(PREFIX + caller, arguments)
        pairs = zip(asks, counted[::2], counted[1::2], strict=True)
        windows = [Window(ask.limit, before, now, ends / 1000) for ask, before, now in pairs]
        return Counted(windows, refused - 1 if refused else None)

    def reason(self, error: Exception) -> str | None:
        """Return why Redis did not count, as the metric names it; None for an error that is not from Redis.

        Only `unreachable` is temporary.
        """
        if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
            return "authentication"
        if isinstance(error, NoConnection | TooLate | OSError):
            return "unreachable"
        if isinstance(error, RedisError):
            return "wrong_type" if "WRONGTYPE" in str(error) else "other"
        return None

    async def close(self) -> None:
        await asyncio.gather(*self._trips)  # each ends within the timeout
        await self._redis.aclose(close_connection_pool=True)

    async def _call(self, key: str, arguments: list[str | int]) -> list[int]:
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, arguments, answer))
        if len(self._trips) < CONNECTIONS:
            # In a separate task: a client that leaves must not break a connection in the middle of a reply.
            trip = asyncio.create_task(self._travel())
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)
        return await answer

    async def _travel(self) -> None:
        """Make round trips until no call is waiting."""
        while self._waiting:
            calls = [self._waiting.popleft() for _ in range(min(CALLS, len(self._waiting)))]
            answers = await self._trip(calls)
            for (_, _, waits), answer in zip(calls, answers, strict=True):
                if waits.done():  # its client has left
                    continue
                if isinstance(answer, BaseException):
                    waits.set_exception(answer)
                else:
                    waits.set_result(answer)

    async def _trip(self, calls: Sequence[_Call]) -> list[Any]:
        """Return the answer to each call, or its error."""
        pipeline = self._redis.pipeline(transaction=False)
        for key, arguments, _ in calls:
            # EVAL, not EVALSHA: after a restart Redis does not know the hash of the script.
            pipeline.eval(SCRIPT, 1, key, *arguments)
        try:
            return await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001  # every waiting call gets the error
            return [error] * len(calls)


def check_url(url: str) -> None:
    """Raise ValueError if `url` is not the URL of a Redis."""
    if urlsplit(url).scheme.removeprefix("async+") not in SCHEMES:
        raise ValueError("the scheme is not known")
    ConnectionPool.from_url(_plain(url))


def _plain(url: str) -> str:
    scheme, _, rest = url.removeprefix("async+").partition("://")
    return f"{SCHEMES.get(scheme, scheme)}://{rest}"
