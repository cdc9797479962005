"""Memory budgets for data that clients send: permits are taken before memory is allocated, in bytes.

A request takes memory in a fixed order: body, stored conversation, encoded images, pixels. Each has its own
budget, so a request that waits holds only earlier kinds, and requests cannot deadlock.
Log probabilities use the budget of bodies: a request that waits for them has released its body, and a line
of a batch, which keeps its own, is tried again. docs/memory.md adds the budgets up.
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
RESERVE = 4  # one part in this many is for callers that hold nothing; of pixels, also one for small images
COPIES = 2  # of a body, while its pieces are joined and while it is parsed
CHARACTER = 4  # bytes per character that Python takes for a text with a character beyond U+FFFF
# Memory of a decoding thread or process besides pixels: a copy of an image's base64, metadata of a file.
THREAD = 64 * MIB
LOGPROB = 320  # bytes per log probability and per token that has some, in vLLM, the answer and its JSON
FREE = 64 * KIB  # a body of at most this is not counted: the number of requests bounds their sum
SMALL = 4_000_000  # pixels; an image with more is large

ReserveMemory = Callable[[int], Awaitable[None]]  # waits for permits for this many bytes


class MemoryBudgets:
    """The memory budgets. A request that gets no permit in time gets Overloaded (503)."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._body_max = settings.body_max_bytes
        wait = (settings.max_running * 8, settings.max_wait)
        small = settings.memory_pixels // RESERVE
        self._bodies = _budget(settings.memory_bodies, *wait)
        self._stored = _budget(settings.memory_stored, *wait)
        self._images = _budget(settings.memory_images, *wait)
        self._small, self._large = _budget(small, *wait), _budget(settings.memory_pixels - small, *wait)
        for kind, budget in (
            ("bodies", self._bodies),
            ("stored", self._stored),
            ("images", self._images),
            ("small_pixels", self._small),
            ("large_pixels", self._large),
        ):
            metrics.memory_held.labels(kind).set_function(partial(_bytes_taken, budget))
            metrics.memory_limit.labels(kind).set(KIB * budget.total)
            metrics.memory_waiting.labels(kind).set_function(partial(_waiting, budget))

    def body(self, caller: Caller, announced: int | None) -> AbstractAsyncContextManager[Permit]:
        """Hold memory for a body of `announced` bytes, or for the largest allowed if its size is unknown."""
        size = self._body_max if announced is None else announced
        return self._bodies.hold(caller, 0 if size <= FREE else _kib(COPIES * size))

    def log_probabilities(
        self, caller: Caller, tokens: int, number: int
    ) -> AbstractAsyncContextManager[Permit]:
        """Hold memory for `number` log probabilities of `tokens`, once the body's memory is released.

        Raises InvalidValue if they need more than the full budget.
        """
        size = LOGPROB * (tokens + number)
        if _kib(size) > self._bodies.most:
            raise InvalidValue(
                f"logprobs: {number} log probabilities of {tokens} tokens need "
                f"{-(-size // MIB)} MiB; the limit is {self._bodies.most * KIB // MIB} MiB",
                param="logprobs",
            )
        return self._bodies.hold(caller, 0 if size <= FREE else _kib(size))

    def stored(self, caller: Caller, size: int) -> AbstractAsyncContextManager[Permit]:
        """Hold memory for `size` bytes read from the storage and for the values parsed from them."""
        return self._stored.hold(caller, 0 if size <= FREE else _kib(COPIES * size))

    def image(self, caller: Caller, size: int) -> AbstractAsyncContextManager[Permit]:
        """Hold memory for an encoded image of `size` bytes."""
        return self._images.hold(caller, _kib(size))

    def pixels(self, caller: Caller, pixels: int, size: int) -> AbstractAsyncContextManager[Permit]:
        """Hold `size` bytes to decode an image of `pixels` pixels; small images never wait for large ones.

        Raises ImageTooLarge if it needs more than the full budget.
        """
        budget = self._small if pixels <= SMALL else self._large
        if _kib(size) > budget.most:
            limit = budget.most * KIB // MIB
            raise ImageTooLarge(f"the image needs {-(-size // MIB)} MiB to decode; the limit is {limit} MiB")
        return budget.hold(caller, _kib(size))


def peak_bytes(settings: Settings, threads: int) -> dict[str, int]:
    """Return the most memory that the gateway's processes take beyond their idle size, in bytes by part.

    `threads` is the number of decoding threads. docs/memory.md explains each part.
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


def keep(permit: Permit, size: int) -> None:
    """Release all but `size` bytes."""
    permit.keep(_kib(size))


def _bytes_taken(budget: FairSemaphore) -> float:
    return KIB * budget.taken


def _waiting(budget: FairSemaphore) -> float:
    return budget.waiting


def _kib(size: int) -> int:
    return -(-size // KIB)


def _budget(size: int, max_waiting: int, max_wait: float) -> FairSemaphore:
    total = size // KIB
    reserve = total // RESERVE
    return FairSemaphore(total, reserve=reserve, max_waiting=max_waiting, max_wait=max_wait, allow_all=True)
