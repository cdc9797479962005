"""Decoding processes, for decoders that a thread could not interrupt; one that times out is replaced.

The caller with the fewest running images is served next, so a flood delays only its sender.
"""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from time import monotonic

import psutil
import structlog
from PIL import Image

from gateway import errors
from gateway.access.callers import Caller
from gateway.access.fair_threads import worker_permits
from gateway.errors import ImageError, Overloaded, Unavailable
from gateway.images.worker import Task, receive, send
from gateway.settings import Settings

LEFT = 0.2  # seconds that an image may still take after its request was cancelled
LATE = 4  # the wall-clock limit of an image, as a multiple of its CPU time

_PROGRAM = "from gateway.images import worker; worker.main()"

log = structlog.get_logger()


class Workers:
    """At most `size` processes, started when they are needed. With `nice` they have a lower priority."""

    def __init__(self, size: int, settings: Settings, *, nice: bool) -> None:
        self._nice = nice
        self._permits = worker_permits(size, settings)
        self._threads = ThreadPoolExecutor(size, "decoder")  # each waits for one process
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    async def decode(self, caller: Caller, task: Task, data: bytes) -> Image.Image:
        """Return the square image. If cancelled, the process is ended before this returns.

        Raises ImageError and its subclasses, also if the image takes longer than `task.seconds` or crashes
        the decoder; Overloaded and Unavailable (503) if the cause is not the image.
        """
        async with self._permits.hold(caller):
            return await self._by_thread(task, data)

    async def _by_thread(self, task: Task, data: bytes) -> Image.Image:
        job = _Job()
        future = self._threads.submit(copy_context().run, self._run, job, task, data)
        done = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not future.cancel():
                await asyncio.wait({done}, timeout=LEFT)
                job.end()
                await asyncio.wait({done})
                done.exception()  # marks it as retrieved: nothing awaits it any more
            raise

    def rest(self) -> None:
        """End idle processes; new ones start when they are needed."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def close(self) -> None:
        """End all processes and threads."""
        self._threads.shutdown(cancel_futures=True)
        self.rest()

    def _run(self, job: "_Job", task: Task, data: bytes) -> Image.Image:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is not None and not worker.alive:
            worker.end()
            worker = None
        worker = worker or _Worker(nice=self._nice)
        try:
            job.begin(worker)
            image = worker.decode(task, data)
        finally:
            job.finish()
            if worker.alive and worker.sound:
                with self._lock:
                    self._idle.append(worker)
            else:
                worker.end()
        return image


class _Job:
    """A running decoding, which may be ended from outside."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None
        self._ended = False
        self._lock = threading.Lock()

    def begin(self, worker: "_Worker") -> None:
        with self._lock:
            self._worker = worker
            if self._ended:
                worker.kill()

    def finish(self) -> None:
        """Forget the process, which may decode another image now."""
        with self._lock:
            self._worker = None

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._worker is not None:
                self._worker.kill()


class _Worker:
    """One process, which decodes one image at a time."""

    def __init__(self, *, nice: bool) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            # The kernel ends it with the thread that started it, which lives as long as its pool.
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter, on our module
                [sys.executable, "-c", _PROGRAM, str(os.getpid()), str(int(nice))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.sound = True  # no stale reply is pending
        self._unwanted = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def decode(self, task: Task, data: bytes) -> Image.Image:
        """Return the square image; raises what `Workers.decode` raises."""
        self.sound = False
        used = self._cpu_seconds()
        # Other work may use the CPU, too, so the wall-clock limit is longer than the CPU limit.
        latest = monotonic() + LATE * task.seconds
        self._channel.settimeout(LATE * task.seconds)
        try:
            send(self._channel, task, data)
            self._until_answered(task, used, latest)
            failed, content = receive(self._channel)
        except TimeoutError:
            log.warning("decoder_timeout", cpu_seconds=round(self._cpu_seconds() - used, 2))
            raise Overloaded("the image was not decoded in time: the machine is busy") from None
        except (EOFError, OSError):
            raise self._died(task) from None
        self.sound = True
        if failed is not None:
            kind: type[ImageError] = getattr(errors, str(failed))
            raise kind(content.decode())
        return Image.frombytes("RGB", (task.side, task.side), content)

    def _until_answered(self, task: Task, used: float, latest: float) -> None:
        answered = select.poll()  # not `select`, which takes no descriptor over 1023
        answered.register(self._channel, select.POLLIN)
        while not answered.poll(250 * task.seconds):  # milliseconds: a quarter of the time limit
            if self._cpu_seconds() - used > task.seconds:
                raise self._too_slow(task)
            if monotonic() > latest:
                raise TimeoutError

    def kill(self) -> None:
        """Kill the process, because its request was cancelled; the thread that waits for it notices."""
        self._unwanted = True
        self._process.kill()

    def end(self) -> None:
        """End the process and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def _cpu_seconds(self) -> float:
        with suppress(psutil.Error):
            times = psutil.Process(self._process.pid).cpu_times()
            return float(times.user + times.system)
        return 0.0

    def _died(self, task: Task) -> errors.GatewayError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEFT)
        self._process.kill()
        number = -self._process.wait()
        if number == signal.SIGXCPU:
            return self._too_slow(task)
        if number == signal.SIGKILL and self._unwanted:
            return Unavailable("the image's decoder was ended: its request was cancelled")
        log.warning("decoder_died", signal=number)
        if number == signal.SIGKILL:  # by the system, out of memory
            return Unavailable("the image's decoder was ended")
        return ImageError("the image cannot be decoded: its decoder crashed")

    def _too_slow(self, task: Task) -> ImageError:
        log.warning("decoder_timeout", cpu_seconds=task.seconds)
        return ImageError(f"the image takes longer than {task.seconds:g} s to decode")
