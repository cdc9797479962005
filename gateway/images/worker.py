"""A process that decodes images, for decoders that a thread could not interrupt.

It reads tasks from a socket on descriptor 0 and writes the square pixels back. It imports little more than
Pillow, ends with its parent process, and limits the memory and CPU time of each image.
"""

import ctypes
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
from PIL.Image import Image

from gateway.errors import GatewayError, ImageError, ImageTooLarge
from gateway.images import heic
from gateway.images.decode import decode
from gateway.images.header import MB, memory_for, open_image
from gateway.images.square import shrink_factor, square

if TYPE_CHECKING:  # pydantic would double the memory and the start-up time of the process
    from gateway.settings import Fit

HEAD = struct.Struct("!II")  # of a message: the lengths of its pickled object and of its bytes
NICE = 4  # added to the niceness, which ranges from -20 to 19
OWN_MEMORY = (
    64 * MB
)  # bytes of the process besides the pixels and file of an image; counted in docs/memory.md
_PDEATHSIG = 1  # prctl(2)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)


@dataclass(frozen=True, slots=True)
class Task:
    """How to decode an image: at most `seconds` of CPU time and `memory` bytes of pixels."""

    side: int
    fit: "Fit"
    fast: bool
    max_pixels: int
    memory: int
    seconds: float


def run(task: Task, data: bytes) -> Image:
    """Return the image as a square RGB of `task.side` pixels. Raises ImageError and its subclasses."""

    def by(size: tuple[int, int]) -> int:
        return shrink_factor(size, task.fit, task.side) if task.fast else 1

    image = open_image(data, max_pixels=task.max_pixels, shrink=by)
    shrink = by(image.size)
    if memory_for(image, shrink) > task.memory:
        raise ImageTooLarge("the image's pixels need more memory than its header declares")
    return square(decode(image, shrink=shrink), task.fit, task.side)


def send(channel: socket.socket, value: object, content: bytes) -> None:
    """Send a message: an object and bytes."""
    packed = pickle.dumps(value)
    channel.sendall(HEAD.pack(len(packed), len(content)) + packed)
    channel.sendall(content)


def receive(channel: socket.socket) -> tuple[object, bytes]:
    """Return the next message. Raises EOFError if the other end is closed."""
    packed, content = HEAD.unpack(_exactly(channel, HEAD.size))
    # A compromised decoder gains nothing with a pickle: it already runs as the same user.
    return pickle.loads(_exactly(channel, packed)), _exactly(channel, content)  # noqa: S301  # see above


def _exactly(channel: socket.socket, size: int) -> bytes:
    content = bytearray(size)
    left = memoryview(content)
    while left:
        if not (got := channel.recv_into(left)):
            raise EOFError
        left = left[got:]
    return bytes(content)


def main() -> None:
    """Decode images until the other end closes the socket."""
    parent, nice = map(int, sys.argv[1:])
    _end_with(parent)
    _return_freed_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write the image of a client to disk
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which lets requests finish
    if nice:
        os.nice(NICE)
    PIL.Image.MAX_IMAGE_PIXELS = None  # sizes are checked before
    channel = socket.socket(fileno=0)
    with suppress(EOFError, ConnectionError):
        while True:
            task, data = receive(channel)
            assert isinstance(task, Task)
            answer, content = _answer(task, data)
            del data
            send(channel, answer, content)


def _answer(task: Task, data: bytes) -> tuple[str | None, bytes]:
    """Return the pixels, or the name of an error's class and its message."""
    if heic.is_heic(data):
        heic.reader()  # loaded now: its libraries are no memory of the image's
    _allow(task.memory + len(data), task.seconds)
    try:
        return None, run(task, data).tobytes()
    except GatewayError as error:
        return type(error).__name__, error.message.encode()
    except MemoryError:
        return ImageTooLarge.__name__, b"the image takes more memory than its size accounts for"
    except Exception as error:  # noqa: BLE001  # whatever a reader raises, the next image must be decoded
        return ImageError.__name__, f"the image cannot be decoded ({type(error).__name__})".encode()


def _end_with(parent: int) -> None:
    """Make the kernel kill this process when its parent ends."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _return_freed_memory() -> None:
    """Make glibc return freed memory to the system, because this process is idle most of the time.

    Threads of decoders share one arena: each further one would take 64 MB of the limited address space.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, MB)
        mallopt(_TRIM_THRESHOLD, 4 * MB)


def _allow(memory: int, seconds: float) -> None:
    """Limit the address space beyond the current use, and the CPU time, for the next image."""
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory + OWN_MEMORY)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, ceil(used.ru_utime + used.ru_stime + seconds) + 1)


def _limit(kind: int, amount: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))
