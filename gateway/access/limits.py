"""Rate limits: requests, tokens and images per minute for each caller.

They are counted in memory, or in Redis if replicas share them: a request on arrival, images and tokens before
anything is fetched. Tokens are those of the prompt plus those that the answer may have. When the answer ends,
unused tokens are refunded; tokens beyond the reservation are a debt.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from gateway.access.callers import Caller
from gateway.access.counts import REASONS, Ask, Counted, Counts, MemoryCounts
from gateway.access.keys import CallerClass
from gateway.access.window import MINUTE, Window
from gateway.errors import RateLimited, Unavailable
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

UNREACHABLE_PAUSE = 1.0  # seconds before Redis is tried again after it did not answer
REDIS_TIMEOUT = 0.5  # seconds
LOG_EVERY: Final = 10.0  # seconds between log lines with the same reason
KINDS = ("requests", "tokens", "images")
# Tokens reserved for an answer whose length the client does not limit: at most USUAL, and at most one part in
# SHARE of the limit, so that one short answer does not use up a low limit.
USUAL: Final = 1024
SHARE: Final = 4

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reservation:
    """The tokens counted for a request, and the windows of its limits by kind."""

    tokens: int
    windows: Mapping[str, Window]


class Limits:
    """Counts requests, tokens and images. A caller over a limit gets RateLimited (429)."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        for kind in (
            *KINDS,
            "at_once",
        ):  # Prometheus sees the first refusal only if the counter exists at 0 before.
            metrics.limited.labels(kind, CallerClass().name)
        for reason in REASONS:
            metrics.limits_unchecked.labels(reason)
        self._refuse_unchecked = settings.limits_unreachable == "refuse"
        self._counts = _counts(settings.limits_url)
        self._away_until = 0.0
        self._logged: dict[str, float] = {}  # when each reason was last in the log

    async def request(self, caller: Caller) -> dict[str, str]:
        """Count a request, and return OpenAI's `x-ratelimit-…` headers for its answer."""
        self._metrics.caller_requests.labels(caller.label, caller.caller_class.name).inc()
        limits = _limits(caller).items()
        # A caller in debt for tokens or images must wait, too, but the request costs none of them yet.
        asks = [Ask(kind, limit, int(kind == "requests"), needed=1) for kind, limit in limits]
        return _headers((await self._take(caller, asks)).windows)

    async def reserve(
        self, caller: Caller, prompt: int, images: int, answer: int, *, bounded: bool = True
    ) -> Reservation:
        """Count the tokens and images of a prompt and the tokens that its answer may have: all, or nothing.

        If the client has not `bounded` the answer, USUAL tokens are counted for it.
        """
        self._metrics.caller_tokens.labels(caller.label, caller.caller_class.name).inc(prompt)
        self._metrics.caller_images.labels(caller.label, caller.caller_class.name).inc(images)
        limits, asks = _limits(caller), []
        if (most := limits.get("tokens")) is not None:
            if not bounded:
                answer = min(answer, USUAL, -(-most // SHARE), max(0, most - prompt))
            asks.append(Ask("tokens", most, prompt + answer, needed=prompt + answer))
        if (most := limits.get("images")) is not None and images:
            asks.append(Ask("images", most, images, needed=images))
        return await self._take(caller, asks)

    async def settle(self, caller: Caller, reserved: int, prompt: int, generated: int) -> None:
        """Replace what a request `reserved` with what it used; a debt counts in full."""
        self._metrics.caller_tokens.labels(caller.label, caller.caller_class.name).inc(generated)
        most = caller.caller_class.tokens_per_minute
        if most is not None and (more := prompt + generated - reserved):
            with suppress(Unavailable):  # The answer has been sent already.
                await self._counted(caller, [Ask("tokens", most, more)])

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._counts.close()

    async def _take(self, caller: Caller, asks: Sequence[Ask]) -> Reservation:
        """Count `asks`, or raise RateLimited."""
        never = next((ask for ask in asks if ask.amount > ask.limit), None)
        if never is not None:
            taken = await self._counted(caller, [replace(ask, amount=0, needed=None) for ask in asks])
        else:
            taken = await self._counted(caller, asks)
        windows = taken.windows if taken else [Window(ask.limit) for ask in asks]
        by_kind = {ask.kind: window for ask, window in zip(asks, windows, strict=True)}
        if never is not None:
            raise self._refusal(caller, never, by_kind)
        if taken and taken.refused is not None:
            raise self._refusal(caller, asks[taken.refused], by_kind)
        tokens = sum(ask.amount for ask in asks if ask.kind == "tokens") if taken else 0
        return Reservation(tokens, by_kind)

    def _refusal(self, caller: Caller, ask: Ask, windows: Mapping[str, Window]) -> RateLimited:
        self._metrics.limited.labels(ask.kind, caller.caller_class.name).inc()
        window = windows[ask.kind]
        if ask.amount > ask.limit:
            with_answer = ", including those of its answer (max_tokens)" if ask.kind == "tokens" else ""
            error = RateLimited(
                f"the request has {ask.amount} {ask.kind}{with_answer}; the limit is {ask.limit} per minute",
                retry_after=MINUTE,
            )
        else:
            error = RateLimited(
                f"the limit is {ask.limit} {ask.kind} per minute; {window.left} are left and the request "
                f"needs {ask.amount}",
                retry_after=window.seconds_until(max(1, ask.amount)),
            )
        error.headers = _headers(windows)
        return error

    async def _counted(self, caller: Caller, asks: Sequence[Ask]) -> Counted | None:
        """Count `asks`. If Redis fails, return None, or raise Unavailable if the settings say so."""
        if not asks:
            return Counted(())
        if time.monotonic() < self._away_until:
            self._note_unchecked("unreachable")
            return None
        try:
            return await self._counts.take(caller.name, asks)
        except Exception as error:
            if (reason := self._counts.reason(error)) is None:
                raise
            now = time.monotonic()
            if reason == "unreachable":
                self._away_until = now + UNREACHABLE_PAUSE
            # An error of one caller's Redis key must not stop counting the others.
            if now - self._logged.get(reason, -LOG_EVERY) >= LOG_EVERY:
                self._logged[reason] = now
                log.error("limits_unchecked", reason=reason, caller=caller.name, error=str(error))  # noqa: TRY400
            self._note_unchecked(reason)
            return None

    def _note_unchecked(self, reason: str) -> None:
        self._metrics.limits_unchecked.labels(reason).inc()
        if self._refuse_unchecked:
            raise Unavailable("limits cannot be checked at the moment", retry_after=2) from None


@dataclass(slots=True)
class Account:
    """Counts one request against the limits of its caller; `limits` is None if it does not count.

    `headers` are sent with the answer, and show what is left.
    """

    caller: Caller
    limits: Limits | None = None
    headers: dict[str, str] = field(default_factory=dict)
    _prompt: int = 0
    _reserved: Reservation | None = None

    async def reserve(self, prompt: int, images: int, answer: int, *, bounded: bool) -> None:
        """Count the request as `Limits.reserve` does. Raises RateLimited."""
        if self.limits is not None:
            self._reserved = await self.limits.reserve(self.caller, prompt, images, answer, bounded=bounded)
            self._prompt = prompt
            self.headers.update(_headers(self._reserved.windows))

    def foresee(self, generated: int) -> None:
        """Set the headers to what is left once an answer of `generated` tokens is settled."""
        if self._reserved and (window := self._reserved.windows.get("tokens")):
            more = self._prompt + generated - self._reserved.tokens
            self.headers.update(_headers({"tokens": window.plus(more)}))

    async def settle(self, generated: int) -> None:
        """Count the tokens of the answer in place of those reserved for it."""
        self.foresee(generated)
        reserved, self._reserved = self._reserved, None
        if self.limits is not None and reserved is not None:
            await self.limits.settle(self.caller, reserved.tokens, self._prompt, generated)


def _counts(url: str | None) -> Counts:
    if url is None:
        return MemoryCounts()
    from gateway.access.redis_counts import RedisCounts

    return RedisCounts(url, REDIS_TIMEOUT)


def _limits(caller: Caller) -> dict[str, int]:
    """Return the caller's limits by kind."""
    chosen = {
        "requests": caller.caller_class.requests_per_minute,
        "tokens": caller.caller_class.tokens_per_minute,
        "images": caller.caller_class.images_per_minute,
    }
    return {kind: amount for kind, amount in chosen.items() if amount is not None}


def _headers(windows: Mapping[str, Window]) -> dict[str, str]:
    headers = {}
    for kind, window in windows.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(window.amount)
        headers[f"x-ratelimit-remaining-{kind}"] = str(window.left)
        headers[f"x-ratelimit-reset-{kind}"] = f"{window.reset:.3f}s"
    return headers


def limits_problem(settings: Settings) -> str | None:
    """Return why rate limits cannot be counted at `limits_url`, without its password."""
    if settings.limits_url is None:
        return None
    from gateway.access.redis_counts import check_url

    try:
        check_url(settings.limits_url)
    except ValueError:
        return "GATEWAY_LIMITS_URL: expected redis://:PASSWORD@HOST:PORT, or rediss:// with TLS"
    return None
