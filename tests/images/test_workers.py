"""Images that a thread can't be stopped in are decoded by processes that can: to the same pixels."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from structlog.testing import capture_logs

from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.errors import ImageError, ImageTooLarge, Overloaded, Unavailable
from gateway.images.header import memory_for, open_image, read_header
from gateway.images.worker import Task, run
from gateway.images.workers import Workers, _Worker
from gateway.settings import Settings
from tests.images.conftest import ME, Loading
from tests.images.pictures import data_url, encoded, noisy
from tests.images.test_heic import heic

pytestmark = pytest.mark.slow

Make = Callable[..., Loading]
Processes = Callable[[], list[psutil.Process]]
ALLOWED = 2**30
PROMPTLY = 5.0  # seconds, on a busy machine too
SIDE = 336


def task(**chosen: Any) -> Task:
    given = {"side": SIDE, "fit": "pad", "fast": True, "max_pixels": 64_000_000}
    return Task(**{**given, "memory": ALLOWED, "seconds": 10.0, **chosen})


TURNED = Image.Exif()
TURNED[0x0112] = 6


def turned(picture: Image.Image, format_: str) -> bytes:
    return encoded(picture, format_, exif=TURNED)


def many_scans() -> bytes:
    """Return a JPEG of 64 megapixels and 100 scans: 370 kB that take seconds."""
    data = encoded(Image.new("RGB", (8000, 8000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    more = 100 - data.count(b"\xff\xda")
    return data[:last] + data[last:-2] * more + data[-2:]


@pytest.fixture(scope="module")
def slow() -> bytes:
    return many_scans()


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers(2, Settings(), nice=False)
    yield made
    await asyncio.to_thread(made.close)


def all_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "worker.main" in command(child)]


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # It has just ended, or is a zombie.
        return ""


@pytest.fixture
def processes() -> Processes:
    """List this test's own: a gateway that other tests share may have some that are idle."""
    others = all_processes()
    return lambda: [process for process in all_processes() if process not in others]


def alive(process: psutil.Process) -> bool:
    """Say whether it runs; one that has ended may stay a zombie where nobody takes it in."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def busy_one(processes: Processes) -> psutil.Process:
    """Return the only process, once it is at work."""
    async with asyncio.timeout(60):
        while True:
            for found in processes():
                if alive(found) and found.cpu_times().user > 0.3:
                    return found
            await asyncio.sleep(0.01)


MAKES: dict[str, Callable[[], bytes]] = {
    "WebP": lambda: encoded(noisy(700, 500), "WEBP"),
    "WebP with alpha": lambda: encoded(noisy(500, 700).convert("RGBA"), "WEBP", lossless=True),
    "WebP turned": lambda: turned(noisy(2000, 300), "WEBP"),
    "animated WebP": lambda: encoded(noisy(60, 60), "WEBP", save_all=True, append_images=[noisy(60, 60)]),
    "AVIF": lambda: encoded(noisy(700, 500), "AVIF", speed=10),
    "AVIF turned": lambda: turned(noisy(300, 500), "AVIF"),
    "grey AVIF": lambda: encoded(noisy(90, 50).convert("L"), "AVIF"),
    "HEIC turned": lambda: heic(noisy(300, 500), exif=TURNED),
    "HEIC with alpha, in tiles": lambda: heic(noisy(700, 500).convert("RGBA"), tile_size=256),
    "TIFF": lambda: encoded(noisy(700, 500), "TIFF", compression="tiff_lzw"),
    "TIFF turned": lambda: turned(noisy(300, 500), "TIFF"),
    "16-bit TIFF": lambda: encoded(
        noisy(90, 50).convert("L").convert("I;16"), "TIFF", compression="tiff_lzw"
    ),
}


@cache
def image(name: str) -> bytes:
    return MAKES[name]()


@pytest.mark.parametrize("name", MAKES)
async def test_a_process_makes_the_pixels_that_a_thread_would(workers: Workers, name: str) -> None:
    for fit in ("pad", "crop", "squash"):
        asked = task(fit=fit)
        by_process = await workers.decode(ME, asked, image(name))
        assert np.array_equal(np.asarray(by_process), np.asarray(run(asked, image(name))))


@pytest.mark.parametrize("name", MAKES)
def test_the_header_alone_tells_size_and_no_less_memory_than_is_needed(name: str) -> None:
    header = read_header(image(name), max_pixels=10**8)
    opened = open_image(image(name), max_pixels=10**8)
    assert header.image is None
    assert header.size == opened.size or header.size == opened.size[::-1]
    assert header.memory >= memory_for(opened, 1)


def test_plain_jpegs_and_pngs_are_for_threads() -> None:
    forms: tuple[tuple[str, dict[str, Any]], ...] = (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
    )
    for format_, options in forms:
        data = encoded(Image.new("L", (4000, 3000)), format_, **options)
        assert read_header(data, max_pixels=10**8).image is not None


def test_a_jpeg_of_many_scans_is_for_a_process(slow: bytes) -> None:
    assert read_header(slow, max_pixels=10**8).image is None


@pytest.mark.parametrize("ended_by", ["us", "the system"])
async def test_what_takes_too_long_is_refused_and_the_next_is_decoded(
    slow: bytes, workers: Workers, processes: Processes, ended_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.images.workers.LATE", 100)  # however busy this machine is
    if ended_by == "the system":
        monkeypatch.setattr(_Worker, "_cpu_seconds", lambda _: 0.0)
    await workers.decode(ME, task(), image("WebP"))  # it has started
    with pytest.raises(ImageError, match=r"the image takes longer than 0\.7 s to decode"):
        await workers.decode(ME, task(seconds=0.7), slow)
    assert processes() == []
    assert (await workers.decode(ME, task(), image("WebP"))).size == (SIDE, SIDE)


async def test_a_process_without_processor_time_is_not_the_images_fault(
    workers: Workers, processes: Processes
) -> None:
    await workers.decode(ME, task(), image("WebP"))
    (one,) = processes()
    one.suspend()
    with pytest.raises(Overloaded):
        await workers.decode(ME, task(seconds=0.1), image("WebP"))
    assert not one.is_running()
    await workers.decode(ME, task(), image("WebP"))


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGSEGV, ImageError), (signal.SIGABRT, ImageError), (signal.SIGKILL, Unavailable)],
)
async def test_a_decoder_that_dies_fails_one_image(
    slow: bytes, workers: Workers, processes: Processes, number: signal.Signals, error: type[Exception]
) -> None:
    asked = asyncio.create_task(workers.decode(ME, task(), slow))
    os.kill((await busy_one(processes)).pid, number)
    with capture_logs() as lines, pytest.raises(error, match="decoder"):
        await asked
    assert lines == [{"event": "decoder_died", "signal": number, "log_level": "warning"}]
    assert (await workers.decode(ME, task(), image("AVIF"))).size == (SIDE, SIDE)


async def test_a_process_that_died_while_idle_is_replaced_unnoticed(
    workers: Workers, processes: Processes
) -> None:
    await workers.decode(ME, task(), image("WebP"))
    (one,) = processes()
    one.kill()
    await asyncio.to_thread(one.wait, 5)
    await workers.decode(ME, task(), image("WebP"))


async def test_who_leaves_frees_everything_and_ends_the_process(
    slow: bytes, loading: Make, processes: Processes
) -> None:
    one = loading()
    asked = asyncio.create_task(one.load(data_url(slow)))
    await busy_one(processes)
    began = time.monotonic()
    with capture_logs() as lines:
        asked.cancel()
        await asyncio.wait({asked})
        while one.memory._large.taken or one.memory._images.taken:
            await asyncio.sleep(0.01)
            assert time.monotonic() - began < PROMPTLY
    assert lines == []  # its decoder was ended, and did not die
    assert processes() == []


async def test_more_pixels_than_the_header_told_are_refused(workers: Workers) -> None:
    with pytest.raises(ImageTooLarge, match="more memory than its header declares"):
        await workers.decode(ME, task(memory=10_000), image("WebP"))


async def test_idle_processes_are_ended(workers: Workers, processes: Processes) -> None:
    await workers.decode(ME, task(), image("WebP"))
    assert len(processes()) == 1
    workers.rest()
    assert processes() == []


async def test_a_small_image_does_not_wait_for_large_ones(loading: Make) -> None:
    """Six lossless WebPs of 64 megapixels: seconds of work, and all the memory that large ones may have."""
    one = loading()
    huge = encoded(Image.new("RGB", (8000, 8000)), "WEBP", lossless=True, method=0)
    assert len(huge) < 20_000
    await one.load(data_url(image("WebP")))
    larges = [asyncio.create_task(one.load(data_url(huge + bytes([n])))) for n in range(6)]
    await asyncio.sleep(0.3)
    for data in (image("AVIF"), encoded(noisy(700, 500), "PNG"), encoded(noisy(700, 500), "JPEG")):
        began = time.monotonic()
        await one.load(data_url(data))
        assert time.monotonic() - began < PROMPTLY
    assert sum(large.done() for large in larges) < len(larges)
    for large in larges:
        large.cancel()
    await asyncio.wait(larges)


async def test_a_callers_flood_of_images_for_processes_waits_behind_itself(loading: Make) -> None:
    one = loading(image_threads=1)
    await one.load(data_url(image("WebP")))  # the process has started
    done: list[str] = []

    async def load(name: str, data: bytes, scope: str) -> None:
        await one.load(data_url(data), scope=scope, caller=Caller(scope, scope, CallerClass()))
        done.append(name)

    webp = encoded(noisy(1500, 1500), "WEBP", method=0)
    flood = [asyncio.create_task(load("eve", webp + bytes([n]), "eve")) for n in range(20)]
    await asyncio.sleep(0.1)
    before = len(done)
    await load("ann", image("AVIF"), "ann")
    await asyncio.gather(*flood)
    assert done.index("ann") - before <= 2


def test_a_worker_imports_little() -> None:
    program = "import gateway.images.worker, sys; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert {"numpy", "pydantic", "torch", "vllm", "uvicorn"} & set(told.split()) == set()


def test_memory_beyond_what_is_allowed_is_not_to_be_had() -> None:
    program = "from gateway.images import worker; worker._allow(0, 9); bytearray(100 * 2**20)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MemoryError" in told.stderr


def test_processes_end_with_a_gateway_that_is_killed(slow: bytes, tmp_path: Any) -> None:
    (tmp_path / "slow").write_bytes(slow)
    program = (
        "import asyncio, sys, pathlib; from gateway.images.workers import Workers, _Worker\n"
        "from tests.images.test_workers import ME, Settings, task\n"
        "workers, data = Workers(1, Settings(), nice=True), pathlib.Path(sys.argv[1]).read_bytes()\n"
        "asyncio.run(workers.decode(ME, task(), data))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "slow")])
    deadline = time.monotonic() + 60
    while not (family := psutil.Process(parent.pid).children()) or family[0].cpu_times().user < 0.3:
        time.sleep(0.02)
        assert time.monotonic() < deadline
    parent.kill()
    parent.wait()
    while any(alive(child) for child in family):
        time.sleep(0.02)
        assert time.monotonic() < deadline
