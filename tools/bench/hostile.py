"""Clients that are after the gateway's memory, all at once, and what its own processes take meanwhile."""

import re
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from multiprocessing import get_context
from statistics import median
from urllib.request import urlopen

import orjson
import psutil
from PIL import Image

from tests.images.pictures import data_url, encoded, noisy
from tests.images.test_structure import chunks, rle_bmp, segments

MB = 2**20
CHAT = "/v1/chat/completions"
BACK = 1.1  # of what was taken before: what may be taken once all is over
HONEST_WITHIN = 10.0  # seconds
LEAVE_AFTER = 1.0  # seconds past the end
HONEST = "127.0.0.2"  # another caller than the attackers
_NUMBERS = count()  # no two images are the same, or the cache would answer


@dataclass(frozen=True)
class Attack:
    """`clients` at once send a body again and again; they leave after `patience` seconds."""

    name: str
    make: Callable[[], bytes] = field(repr=False)
    clients: int
    patience: float = 60.0


@dataclass
class Outcome:
    """What was answered, by attack and status; how long an honest request took; bytes taken."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    honest: list[float] = field(default_factory=list)
    before: int = 0
    peak: int = 0
    after: int = 0
    cached: int = 0  # of `after`: images that were not in the gateway's cache before

    def holds(self, allowed: int) -> bool:
        """Say whether the peak is within `allowed` bytes over the start, and all came back but the cache."""
        within = self.peak <= self.before + allowed and self.is_back
        return within and max(self.honest) < HONEST_WITHIN and {("honest", 200)} == self.of_honest

    @property
    def is_back(self) -> bool:
        return self.after - self.cached <= BACK * self.before

    @property
    def of_honest(self) -> set[tuple[str, int]]:
        return {asked for asked in self.answers if asked[0] == "honest"}

    def summary(self, allowed: int) -> str:
        longest = max(self.honest)
        return (
            f"before {self.before / MB:.0f} MiB, peak {self.peak / MB:.0f} MiB "
            f"(allowed {(self.before + allowed) / MB:.0f}), after {self.after / MB:.0f} MiB "
            f"({self.cached / MB:.0f} of it in the image cache); "
            f"an honest image: {len(self.honest)} asked, {median(self.honest):.2f} s, {longest:.2f} s at most"
        )


def body(model: str, *urls: str, max_tokens: int = 2, **more: object) -> bytes:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [*images, {"type": "text", "text": "What is it?"}]
    messages = [{"role": "user", "content": content}]
    return orjson.dumps({"model": model, "messages": messages, "max_tokens": max_tokens, **more})


def tagged(data: bytes) -> str:
    """Return a data URL of the image with a number behind it, which no decoder reads."""
    return data_url(data + struct.pack(">I", next(_NUMBERS)))


def texts() -> bytes:
    """Return a PNG of 60 texts that unpack to a megabyte each."""
    return chunks(b"zTXt", b"a\0\0" + zlib.compress(bytes(MB)), 60)


def attacks(model: str, origin: str, scale: float) -> list[Attack]:
    """Return the attacks; `scale` below 1 makes files and crowds smaller."""
    large = int(19 * MB * scale)
    side = int(8000 * scale**0.5)
    crowd = max(2, round(24 * scale))
    webp = encoded(Image.new("RGB", (side, side)), "WEBP", lossless=True, method=0)
    png = encoded(Image.new("RGBA", (side, side), (1, 2, 3, 128)), "PNG", compress_level=1)
    app5 = body(model, *[data_url(segments(0xE5, b"", large // 4))] * 2)
    exif = body(model, *[data_url(segments(0xE1, b"Exif\0\0x", large // 11))] * 2)
    exif_large = segments(0xE1, b"Exif\0\0" + bytes(60_000), max(2, int(60 * scale)))
    wrong = body(model, *[data_url(b"\xff\xd8\xff" + bytes(int(6.5 * MB * scale)))] * 7)
    wide = body(model, data_url(b"x" * large)[:-4] + "\U0001f600")
    rle = data_url(rle_bmp())
    jpeg = encoded(noisy(1600, 1200), "JPEG", quality=95)
    return [
        Attack("APP5 markers", lambda: app5, crowd),
        Attack("Exif, and leave", lambda: exif, 2, patience=3),
        Attack("large Exif", lambda: body(model, *[tagged(exif_large) for _ in range(7)]), 4),
        Attack("large bodies of bad images", lambda: wrong, round(64 * scale)),
        Attack("one wide character", lambda: wide, 2),
        Attack("huge WebPs", lambda: body(model, *[tagged(webp) for _ in range(7)]), 10),
        Attack(
            "huge WebPs, and leave", lambda: body(model, *[tagged(webp) for _ in range(7)]), 4, patience=1
        ),
        Attack("huge RGBA", lambda: body(model, *[tagged(png) for _ in range(7)]), 8),
        Attack("RLE BMPs", lambda: body(model, *[rle] * 7), 10),
        Attack("PNG texts", lambda: body(model, *[tagged(texts()) for _ in range(7)]), 8),
        Attack(
            "URLs of large files",
            lambda: body(model, *[f"{origin}/{next(_NUMBERS)}" for _ in range(7)]),
            round(64 * scale),
        ),
        Attack("long answers", lambda: body(model, tagged(jpeg), max_tokens=200, ignore_eos=True), crowd),
    ]


def run(url: str, pid: int, model: str, *, seconds: float, scale: float, rest: float) -> Outcome:
    """Attack the gateway at `url`, a process of this machine, and return what came of it.

    Its memory is measured for up to `rest` seconds after the last request too, until it is back.
    """
    outcome = Outcome()
    host = url.removeprefix("http://")
    with large_files(int(20 * MB * scale)) as origin:
        planned = attacks(model, origin, scale)
        for _ in range(5):
            send(host, body(model, tagged(encoded(noisy(336, 336), "JPEG"))), 60)
        cached = _cached(url)
        outcome.before = taken(pid)
        deadline = time.monotonic() + seconds
        with (
            watched(pid, outcome),
            # In a process of its own: the attackers keep this one's interpreter busy.
            ProcessPoolExecutor(1, get_context("spawn")) as other,
            ThreadPoolExecutor(sum(attack.clients for attack in planned)) as threads,
        ):
            honest = other.submit(asked_meanwhile, host, model, seconds)
            for attack in planned:
                for _ in range(attack.clients):
                    threads.submit(_attack, host, attack, deadline, outcome)
    for status, took in honest.result():
        outcome.answers["honest", status] += 1
        outcome.honest.append(took)
    outcome.cached = _cached(url) - cached
    _settle(pid, outcome, rest)
    return outcome


def send(host: str, content: bytes, patience: float, source: str = "127.0.0.1") -> int:
    """Return the answer's status; 0 where the client left, or where the connection broke."""
    connection = HTTPConnection(host, timeout=patience, source_address=(source, 0))
    try:
        connection.request("POST", CHAT, content, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()
    return response.status


def taken(pid: int) -> int:
    """Return the bytes that the gateway's own processes take: it, and those that decode; not the engine's."""
    gateway = psutil.Process(pid)
    found = int(gateway.memory_info().rss)
    for child in gateway.children():
        with suppress(psutil.Error):
            if "worker.main" in " ".join(child.cmdline()):
                found += int(child.memory_full_info().uss)
    return found


@contextmanager
def watched(pid: int, outcome: Outcome) -> Iterator[None]:
    """Keep the highest of what is taken, ten times a second, and the kernel's own mark of the gateway's."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            outcome.peak = max(outcome.peak, taken(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123
            mark = re.search(r"VmHWM:\s+(\d+) kB", status.read())
        assert mark is not None
        outcome.peak = max(outcome.peak, 1024 * int(mark[1]))


@contextmanager
def large_files(size: int) -> Iterator[str]:
    """Serve JPEGs of `size` bytes, under any name."""
    content = encoded(noisy(640, 480), "JPEG")
    content += bytes(size - len(content))

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(size))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 512
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that leaves is no news."""

    server = Server(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _attack(host: str, attack: Attack, deadline: float, outcome: Outcome) -> None:
    while time.monotonic() < deadline:
        made = attack.make()
        # At the end all leave at once, which is an attack too.
        left = deadline + LEAVE_AFTER - time.monotonic()
        status = send(host, made, max(0.1, min(attack.patience, left)))
        outcome.answers[attack.name, status] += 1
        if status in {0, 503}:
            time.sleep(0.5)


def asked_meanwhile(host: str, model: str, seconds: float) -> list[tuple[int, float]]:
    """Ask with one small image after the other; return what was answered, and in how many seconds."""
    found = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        asked = body(model, tagged(encoded(noisy(64, 48), "JPEG")))
        began = time.monotonic()
        status = send(host, asked, 60, HONEST)
        found.append((status, time.monotonic() - began))
        time.sleep(0.2)
    return found


def _settle(pid: int, outcome: Outcome, rest: float) -> None:
    deadline = time.monotonic() + rest
    while True:
        outcome.after = taken(pid)
        if outcome.is_back or time.monotonic() > deadline:
            return
        time.sleep(1)


def _cached(url: str) -> int:
    """Return the bytes of images in the gateway's cache."""
    with urlopen(f"{url}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    found = re.search(r"^gateway_image_cache_bytes (\S+)$", page, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))
