"""Loads an image from its source as a square `Picture` with a key; heavy work runs in threads."""

import asyncio
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from PIL import Image
from PIL.ImageFile import ImageFile

from gateway.access.callers import Caller
from gateway.access.fair_threads import FairThreadPool
from gateway.access.memory_budgets import SMALL, MemoryBudgets, ReserveMemory
from gateway.engine.interface import Picture
from gateway.errors import ImageError, ImageTooLarge, NotFound
from gateway.images.cache import Flights, PictureCache
from gateway.images.decode import decode
from gateway.images.fetch import Fetcher
from gateway.images.header import Header, memory_for, read_header
from gateway.images.source import DataURL, FileID, Source, WebURL, decode_base64, too_large
from gateway.images.square import shrink_factor, square
from gateway.images.worker import NICE, Task
from gateway.images.workers import Workers
from gateway.settings import Fit, Settings
from gateway.storage.files import Files
from gateway.telemetry import request_log
from gateway.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The parameters of an image besides its bytes; all are part of the key."""

    side: int
    fit: Fit
    scope: str  # of the caller: images of two callers never have the same key


@dataclass(frozen=True, slots=True)
class _Opened:
    """An image whose header is read; `data` is kept if a process decodes it."""

    header: Header
    key: str
    data: bytes | None
    bytes: int


def _lower_priority() -> None:
    """Lower this thread's priority below those of the event loop and the engine, if the system allows it."""
    with suppress(OSError, AttributeError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


class PictureLoader:
    """Loads images. It starts no thread before the first `load`."""

    def __init__(
        self, settings: Settings, metrics: Metrics, memory: MemoryBudgets, files: Files | None = None
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._metrics = metrics
        self._files = files
        self._fetcher = Fetcher(settings, metrics)
        size = settings.image_threads or len(os.sched_getaffinity(0))
        self._threads = FairThreadPool("image", size, settings)
        # Separate threads: small images must not wait behind large ones.
        self._large_threads = FairThreadPool("large-image", size, settings, start=_lower_priority)
        # Decoders that a thread could not interrupt run in processes.
        self._workers = Workers(size, settings, nice=False)
        self._large_workers = Workers(-(-size // 2), settings, nice=True)
        self._cache = cache = PictureCache(settings.image_cache_bytes)
        metrics.image_cache_bytes.set_function(lambda: cache.bytes)
        self._flights = Flights()
        # Clients cannot compute a key, so they cannot search for an image with the same one.
        self._secret = secrets.token_bytes(hashlib.blake2b.MAX_KEY_SIZE)

    async def load(
        self, source: Source, *, param: str, side: int, fit: Fit, scope: str, caller: Caller
    ) -> Picture:
        """Return the image as a square RGB of `side` pixels, and the key that identifies these pixels.

        Memory permits are taken for `caller`. Raises ImageError and its subclasses, whose message starts with
        `param`, the field in the request, and Overloaded if memory is not free in time.
        """
        wanted = _Wanted(side, fit, scope)
        async with AsyncExitStack() as held:
            with _errors_with_param(param):
                kind, opened = await self._opened(source, wanted, held, caller)
                picture = self._cache.get(opened.key)
                hit = picture is not None or opened.key in self._flights
                self._metrics.image_cache.labels(result="hit" if hit else "miss").inc()
                if picture is None:
                    picture = await self._flights.join(
                        opened.key, lambda: self._prepare(opened, wanted, caller)
                    )
        self._metrics.images.labels(source=kind, format=opened.header.format).inc()
        _note(opened, kind, hit=hit)
        return picture

    async def close(self) -> None:
        """Cancel running work, close all connections and end the threads and processes."""
        await self._flights.close()
        await self._fetcher.close()
        for threads in (self._threads, self._large_threads):
            await threads.close()
        for workers in (self._workers, self._large_workers):
            await asyncio.to_thread(workers.close)

    def rest(self) -> None:
        """End idle decoding processes; new ones start when they are needed."""
        for workers in (self._workers, self._large_workers):
            workers.rest()

    async def _opened(
        self, source: Source, wanted: _Wanted, held: AsyncExitStack, caller: Caller
    ) -> tuple[str, _Opened]:
        """Return the kind of source and the opened image; `held` keeps the permits for its bytes."""

        async def reserve(size: int) -> None:
            await held.enter_async_context(self._memory.image(caller, size))

        match source:
            case DataURL():
                await reserve(source.at_most)
                return "data", await self._threads.run(caller, partial(self._open_data, source, wanted))
            case WebURL():
                with self._step("fetch"):
                    data = await self._fetcher.fetch(source.url, caller, reserve)
                return "http", await self._threads.run(caller, partial(self._open, data, wanted))
            case FileID():
                data = await self._stored(source.id, wanted.scope, reserve)
                return "file", await self._threads.run(caller, partial(self._open, data, wanted))

    async def _stored(self, file_id: str, scope: str, reserve: ReserveMemory) -> bytes:
        if self._files is None:
            raise ImageError("no files are stored here")
        limit = self._settings.image_max_bytes
        try:
            file = await self._files.get(file_id, scope)
            if file.bytes > limit:
                raise ImageTooLarge(too_large(file.bytes, limit))
            await reserve(file.bytes)
            return await self._files.content(file_id, scope)
        except NotFound as error:
            # Not a 404: load balancers would conclude that this server lacks the route.
            raise ImageError(error.message) from None

    def _open_data(self, source: DataURL, wanted: _Wanted) -> _Opened:
        with self._step("decode"):
            data = decode_base64(source, max_bytes=self._settings.image_max_bytes)
        return self._open(data, wanted)

    def _open(self, data: bytes, wanted: _Wanted) -> _Opened:
        header = read_header(
            data,
            max_pixels=self._settings.image_max_pixels,
            shrink=lambda size: self._shrink(size, wanted),
        )
        return _Opened(header, self._key(data, wanted), data if header.image is None else None, len(data))

    def _key(self, data: bytes, wanted: _Wanted) -> str:
        """Return a keyed hash over the caller and everything that the pixels depend on, with lengths."""
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in (wanted.scope, wanted.fit, str(wanted.side), self._settings.image_decode):
            text = part.encode("utf-8", "surrogatepass")
            digest.update(len(text).to_bytes(8, "big"))
            digest.update(text)
        digest.update(data)
        return digest.hexdigest()

    async def _prepare(self, opened: _Opened, wanted: _Wanted, caller: Caller) -> Picture:
        header = opened.header
        shrink = self._shrink(header.size, wanted)
        memory = header.memory if header.image is None else memory_for(header.image, shrink)
        large = header.pixels > SMALL
        async with self._memory.pixels(caller, header.pixels, memory):
            if header.image is None:
                assert opened.data is not None
                workers = self._large_workers if large else self._workers
                with self._step("decode"):
                    pixels = await workers.decode(caller, self._task(wanted, memory), opened.data)
            else:
                threads = self._large_threads if large else self._threads
                pixels = await threads.run(caller, partial(self._fitted, header.image, wanted, shrink))
        picture = Picture(pixels, opened.key)
        self._cache.put(picture)
        return picture

    def _shrink(self, size: tuple[int, int], wanted: _Wanted) -> int:
        return shrink_factor(size, wanted.fit, wanted.side) if self._fast else 1

    def _task(self, wanted: _Wanted, memory: int) -> Task:
        settings = self._settings
        return Task(
            side=wanted.side,
            fit=wanted.fit,
            fast=self._fast,
            max_pixels=settings.image_max_pixels,
            memory=memory,
            seconds=settings.image_decode_timeout,
        )

    def _fitted(self, image: ImageFile, wanted: _Wanted, shrink: int) -> Image.Image:
        with self._step("decode"):
            rendition = decode(image, shrink=shrink)
        with self._step("fit"):
            return square(rendition, wanted.fit, wanted.side)

    @property
    def _fast(self) -> bool:
        return self._settings.image_decode == "fast"

    @contextmanager
    def _step(self, step: str) -> Iterator[None]:
        began = perf_counter()
        yield
        seconds = perf_counter() - began
        self._metrics.image_seconds.labels(step=step).observe(seconds)
        request_log.current().add(step, seconds)


def _note(opened: _Opened, kind: str, *, hit: bool) -> None:
    """Add the image's sizes, not its content, to the span of the request."""
    path = request_log.current()
    if path.span is not None:
        sizes: dict[str, str | int | bool] = {
            "gateway.image.bytes": opened.bytes,
            "gateway.image.format": opened.header.format,
            "gateway.image.width": opened.header.size[0],
            "gateway.image.height": opened.header.size[1],
            "gateway.image.source": kind,
            "gateway.image.cached": hit,
        }
        path.images.append((perf_counter(), sizes))


@contextmanager
def _errors_with_param(param: str) -> Iterator[None]:
    """Prefix an ImageError with `param`. It raises a new error, because several requests may share one."""
    try:
        yield
    except ImageError as error:
        raise type(error)(f"{param}: {error.message}", param=param) from None
