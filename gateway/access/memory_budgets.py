"""Memory for what clients send, as permits that are taken before it is allocated. All amounts are in bytes.

Each kind has a budget of its own: what waits for one holds only what comes before it in a request's life, a
body, then what is stored of its conversation, then its encoded images, then the pixels of each. So requests
never wait for each other in a circle.
Log probabilities are of the bodies' budget: a request that waits for theirs holds nothing any more, and a
batch's line, which holds itself, tries again.
docs/memory.md has the sum.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from gateway.access.callers import Caller
from gateway.access.fair_semaphore import FairSemaphore, Permit
from gateway.errors import ImageTooLarge, InvalidValue
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

KIB, MIB = 2**10, 2**20
RESERVE = 4  # one part in this many is for callers who hold nothing, and one of pixels for small images
COPIES = 2  # of a body, while its pieces are joined and while it is parsed
CHARACTER = 4  # bytes that Python keeps for each of a text's where one of them is rare
# Of a decoding thread or process, besides pixels: a copy of an image's text, a file's notes.
THREAD = 64 * MIB
LOGPROB = 320  # bytes of a log probability, and of a token that has some: vLLM's numbers, JSON, the answer's
FREE = 64 * KIB  # a body of at most this is not counted: what runs is bounded, and so are these together
SMALL = 4_000_000  # pixels; an image of more is large

Claim = Callable[[int], Awaitable[None]]  # takes memory for this many bytes


class MemoryBudgets:
    """The budgets. A request that gets no permit in time gets Overloaded (503)."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._body_max = settings.body_max_bytes
        wait = (settings.max_running * 8, settings.max_wait)
        small = settings.memory_pixels // RESERVE
        self._bodies = _shares(settings.memory_bodies, *wait)
        self._stored = _shares(settings.memory_stored, *wait)
        self._images = _shares(settings.memory_images, *wait)
        self._small, self._large = _shares(small, *wait), _shares(settings.memory_pixels - small, *wait)
        for kind, shares in (
            ("bodies", self._bodies),
            ("stored", self._stored),
            ("images", self._images),
            ("small_pixels", self._small),
            ("large_pixels", self._large),
        ):
            metrics.memory_held.labels(kind).set_function(partial(_bytes_taken, shares))
            metrics.memory_limit.labels(kind).set(KIB * shares.total)
            metrics.memory_waiting.labels(kind).set_function(partial(_waiting, shares))

    def body(self, caller: Caller, announced: int | None) -> AbstractAsyncContextManager[Permit]:
        """Hold memory for a body of `announced` bytes, or for the largest allowed if its size is unknown."""
        size = self._body_max if announced is None else announced
        return self._bodies.hold(caller, 0 if size <= FREE else _kib(COPIES * size))

    def log_probabilities(
        self, caller: Caller, tokens: int, number: int
    ) -> AbstractAsyncContextManager[Permit]:
        """Hold memory for `number` log probabilities of `tokens`; the body's memory is released.

        Raises InvalidValue where they need more than there is for all.
        """
        size = LOGPROB * (tokens + number)
        if _kib(size) > self._bodies.most:
            raise InvalidValue(
                f"logprobs: {number} log probabilities of {tokens} tokens are asked for; they take "
                f"{-(-size // MIB)} MiB, and the limit is {self._bodies.most * KIB // MIB}",
                param="logprobs",
            )
        return self._bodies.hold(caller, 0 if size <= FREE else _kib(size))

    def stored(self, caller: Caller, size: int) -> AbstractAsyncContextManager[Permit]:
        """Hold memory for `size` bytes read from the storage, and for the values parsed from them."""
        return self._stored.hold(caller, 0 if size <= FREE else _kib(COPIES * size))

    def image(self, caller: Caller, size: int) -> AbstractAsyncContextManager[Permit]:
        """Hold memory for an encoded image of `size` bytes."""
        return self._images.hold(caller, _kib(size))

    def pixels(self, caller: Caller, pixels: int, size: int) -> AbstractAsyncContextManager[Permit]:
        """Hold `size` bytes to decode an image of `pixels` pixels; a small one never waits for a large.

        Raises ImageTooLarge where it needs more than there is for all.
        """
        shares = self._small if pixels <= SMALL else self._large
        if _kib(size) > shares.most:
            raise ImageTooLarge(
                f"the image takes {-(-size // MIB)} MiB to decode; the limit is {shares.most * KIB // MIB}"
            )
        return shares.hold(caller, _kib(size))


def at_most(settings: Settings, threads: int) -> dict[str, int]:
    """Return what the gateway's own processes take at most besides what they take idle, in bytes by part.

    `threads` decode. docs/memory.md explains each part.
    """
    body = settings.body_max_bytes
    return {
        "bodies": max(settings.memory_bodies, COPIES * body),
        "bodies while they are parsed": CHARACTER * body * (1 + max(1, threads // 2)),
        "stored": max(settings.memory_stored, COPIES * body),
        "one batch's file": (COPIES + CHARACTER) * body,
        "images": max(settings.memory_images, settings.image_max_bytes),
        "pixels": settings.memory_pixels,
        "image cache": settings.image_cache_bytes,
        "requests": MIB // 2 * (settings.max_images + 1) * settings.max_running,
        "connections": MIB // 5 * settings.max_connections,
        "threads": THREAD * threads,
        "decoding processes": THREAD * (threads + -(-threads // 2)),
    }


def keep(holding: Permit, size: int) -> None:
    """Release all but `size` bytes."""
    holding.keep(_kib(size))


def _bytes_taken(shares: FairSemaphore) -> float:
    return KIB * shares.taken


def _waiting(shares: FairSemaphore) -> float:
    return shares.waiting


def _kib(size: int) -> int:
    return -(-size // KIB)


def _shares(total: int, max_waiting: int, max_wait: float) -> FairSemaphore:
    places = total // KIB
    reserve = places // RESERVE
    return FairSemaphore(places, reserve=reserve, max_waiting=max_waiting, max_wait=max_wait, whole=True)
