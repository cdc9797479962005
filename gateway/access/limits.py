"""How much a caller may send: requests, tokens and images per minute, counted by `limits`.

In memory, or in Redis where replicas share. Requests are counted when they come, images and a prompt's
tokens before anything is fetched, an answer's tokens when it ends.
"""

import time
from dataclasses import dataclass
from typing import Any

import structlog
from limits import RateLimitItemPerMinute, storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.errors import RateLimited, Unavailable
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

UNREACHABLE_PAUSE = 1.0  # seconds without another try after Redis did not answer
REDIS_TIMEOUT = 0.5  # seconds
KINDS = ("requests", "tokens", "images")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Limit:
    kind: str  # requests, tokens or images
    item: RateLimitItemPerMinute

    @property
    def amount(self) -> int:
        return self.item.amount


class Limits:
    """Counts what callers send. A caller over a limit gets RateLimited (429)."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        for kind in (*KINDS, "at_once"):  # Prometheus sees the first refusal only as a rise from 0.
            metrics.limited.labels(kind, CallerClass().name)
        self._refuse_unreachable = settings.limits_unreachable == "refuse"
        self._storage = _storage(settings.limits_url)
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._away_until = 0.0

    async def request(self, caller: Caller) -> dict[str, str]:
        """Count a request, and return OpenAI's `x-ratelimit-…` headers for its answer."""
        self._metrics.caller_requests.labels(caller.label, caller.klass.name).inc()
        limits = _limits(caller)
        if not limits:
            return {}
        for limit in limits:
            # Whoever owes tokens or images must wait, too, but a request costs none of them yet.
            await self._take(caller, limit, 1 if limit.kind == "requests" else 0)
        return await self._headers(caller, limits)

    async def spend(self, caller: Caller, tokens: int, images: int) -> None:
        """Count what a request sends, all or nothing of each kind."""
        amounts = {"tokens": tokens, "images": images}
        self._metrics.caller_tokens.labels(caller.label, caller.klass.name).inc(tokens)
        self._metrics.caller_images.labels(caller.label, caller.klass.name).inc(images)
        for limit in _limits(caller):
            if amount := amounts.get(limit.kind, 0):
                await self._take(caller, limit, amount)

    async def owe(self, caller: Caller, tokens: int) -> None:
        """Count an answer's tokens, even beyond the limit."""
        self._metrics.caller_tokens.labels(caller.label, caller.klass.name).inc(tokens)
        for limit in _limits(caller):
            if limit.kind == "tokens" and tokens:
                # A hit of more than is left counts nothing, so it is cut to that.
                left = (await self._stats(caller, limit))[0]
                hit = self._limiter.hit(limit.item, caller.name, cost=min(tokens, left))
                await self._guarded(hit, otherwise=True)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if (redis := getattr(self._storage, "bridge", None)) is not None:
            await redis.storage.aclose()

    async def _take(self, caller: Caller, limit: _Limit, amount: int) -> None:
        if amount > limit.amount:
            raise RateLimited(
                f"the request has {amount} {limit.kind}; the limit is {limit.amount} per minute",
                retry_after=60,
            )
        if amount:
            call = self._limiter.hit(limit.item, caller.name, cost=amount)
        else:
            call = self._limiter.test(limit.item, caller.name, cost=1)
        if await self._guarded(call, otherwise=True):
            return
        self._metrics.limited.labels(limit.kind, caller.klass.name).inc()
        left, reset = await self._stats(caller, limit)
        raise RateLimited(
            f"the limit is {limit.amount} {limit.kind} per minute; "
            f"{left} are left and the request needs {amount}",
            retry_after=max(0.001, reset - time.time()),
        )

    async def _headers(self, caller: Caller, limits: list[_Limit]) -> dict[str, str]:
        headers = {}
        for limit in limits:
            left, reset = await self._stats(caller, limit)
            headers[f"x-ratelimit-limit-{limit.kind}"] = str(limit.amount)
            headers[f"x-ratelimit-remaining-{limit.kind}"] = str(left)
            headers[f"x-ratelimit-reset-{limit.kind}"] = f"{max(0.0, reset - time.time()):.3f}s"
        return headers

    async def _stats(self, caller: Caller, limit: _Limit) -> tuple[int, float]:
        """Return what is left, and when there is more, in seconds since the epoch."""
        stats = await self._guarded(self._limiter.get_window_stats(limit.item, caller.name), otherwise=None)
        if stats is None:
            return limit.amount, time.time()
        return int(stats.remaining), float(stats.reset_time)

    async def _guarded(self, call: Any, otherwise: Any) -> Any:
        """Await `call`; where Redis is away return `otherwise` or, as the settings say, raise Unavailable."""
        try:
            if time.monotonic() < self._away_until:
                call.close()
                raise ConnectionError  # noqa: TRY301  # as if it had been tried
            return await call
        except Exception as error:  # noqa: BLE001  # whatever a client of Redis raises
            if time.monotonic() >= self._away_until:
                self._away_until = time.monotonic() + UNREACHABLE_PAUSE
                log.error("limits_unreachable", reason=type(error).__name__)  # noqa: TRY400  # its name says all
            if self._refuse_unreachable:
                raise Unavailable("limits cannot be checked at the moment", retry_after=2) from None
            return otherwise


@dataclass(frozen=True, slots=True)
class Account:
    """A caller, and the limits that what it sends counts against; none where it was counted before."""

    caller: Caller
    limits: Limits | None = None

    async def spend(self, tokens: int, images: int) -> None:
        """Count a prompt's tokens and images. Raises RateLimited."""
        if self.limits is not None:
            await self.limits.spend(self.caller, tokens, images)


def _limits(caller: Caller) -> list[_Limit]:
    chosen = {
        "requests": caller.klass.requests_per_minute,
        "tokens": caller.klass.tokens_per_minute,
        "images": caller.klass.images_per_minute,
    }
    # The kind is part of the item's key, so that no two limits are counted together.
    return [
        _Limit(kind, RateLimitItemPerMinute(amount, namespace=kind))
        for kind, amount in chosen.items()
        if amount is not None
    ]


def _storage(url: str | None) -> Any:
    if url is None:
        return storage.storage_from_string("async+memory://")
    return storage.storage_from_string(
        f"async+{url.removeprefix('async+')}",
        implementation="redispy",
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=REDIS_TIMEOUT,
    )
