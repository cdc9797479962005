"""How much a caller may send: requests, tokens and images per minute, counted by `limits`.

In memory, or in Redis where replicas share. Requests are counted when they come, images and a prompt's
tokens before anything is fetched, an answer's tokens when it ends.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from limits import RateLimitItemPerMinute, storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError

from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.access.window import MINUTE, Window
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
        # Whoever owes tokens or images must wait, too, but a request costs none of them yet.
        return await self._take_all(caller, [(limit, int(limit.kind == "requests")) for limit in limits])

    async def spend(self, caller: Caller, tokens: int, images: int) -> dict[str, str]:
        """Count what a request sends, all or nothing of each kind, and return the headers as they are now."""
        amounts = {"tokens": tokens, "images": images}
        self._metrics.caller_tokens.labels(caller.label, caller.klass.name).inc(tokens)
        self._metrics.caller_images.labels(caller.label, caller.klass.name).inc(images)
        limits = [(limit, amounts.get(limit.kind, 0)) for limit in _limits(caller)]
        return await self._take_all(caller, [(limit, amount) for limit, amount in limits if amount])

    async def owe(self, caller: Caller, tokens: int) -> None:
        """Count an answer's tokens, even beyond the limit."""
        self._metrics.caller_tokens.labels(caller.label, caller.klass.name).inc(tokens)
        for limit in _limits(caller):
            if limit.kind == "tokens" and tokens:
                # A hit of more than is left counts nothing, so it is cut to that.
                window = await self._window(caller, limit)
                hit = self._limiter.hit(limit.item, caller.name, cost=min(tokens, window.left))
                await self._guarded(hit, otherwise=True)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if (redis := getattr(self._storage, "bridge", None)) is not None:
            await redis.storage.aclose()

    async def _take_all(self, caller: Caller, amounts: list[tuple[_Limit, int]]) -> dict[str, str]:
        try:
            for limit, amount in amounts:
                await self._take(caller, limit, amount)
        except RateLimited as error:
            error.headers = await self._headers(caller, [limit for limit, _ in amounts])
            raise
        return await self._headers(caller, [limit for limit, _ in amounts])

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
        window = await self._window(caller, limit)
        raise RateLimited(
            f"the limit is {limit.amount} {limit.kind} per minute; "
            f"{window.left} are left and the request needs {amount}",
            retry_after=window.seconds_until(max(1, amount)),
        )

    async def _headers(self, caller: Caller, limits: list[_Limit]) -> dict[str, str]:
        headers = {}
        windows = await asyncio.gather(*(self._window(caller, limit) for limit in limits))
        for limit, window in zip(limits, windows, strict=True):
            headers[f"x-ratelimit-limit-{limit.kind}"] = str(limit.amount)
            headers[f"x-ratelimit-remaining-{limit.kind}"] = str(window.left)
            headers[f"x-ratelimit-reset-{limit.kind}"] = f"{window.reset:.3f}s"
        return headers

    async def _window(self, caller: Caller, limit: _Limit) -> Window:
        read = self._storage.get_sliding_window(limit.item.key_for(caller.name), MINUTE)
        before, before_ends, now, now_ends = await self._guarded(read, otherwise=(0, 0.0, 0, 0.0))
        return Window(limit.amount, before, max(0.0, before_ends), now, max(0.0, now_ends))

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
    """A caller, and the limits that what it sends counts against; none where it was counted before.

    `headers` are of the request's answer, and say what is left.
    """

    caller: Caller
    limits: Limits | None = None
    headers: dict[str, str] = field(default_factory=dict)

    async def spend(self, tokens: int, images: int) -> None:
        """Count a prompt's tokens and images. Raises RateLimited."""
        if self.limits is not None:
            self.headers.update(await self.limits.spend(self.caller, tokens, images))


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


def limits_problem(settings: Settings) -> str | None:
    """Return why limits cannot be counted at `limits_url`, without its password."""
    try:
        _storage(settings.limits_url)
    except (ConfigurationError, ValueError):
        return "GATEWAY_LIMITS_URL: expected a Redis as redis://:PASSWORD@HOST:PORT, or rediss:// with TLS"
    return None


def _storage(url: str | None) -> Any:
    if url is None:
        return storage.storage_from_string("async+memory://")
    return storage.storage_from_string(
        f"async+{url.removeprefix('async+')}",
        implementation="redispy",
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=REDIS_TIMEOUT,
    )
