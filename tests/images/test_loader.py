"""Keys, bounds and concurrency of loading."""

import asyncio
import os
import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.errors import ImageError, ImageTooLarge
from gateway.images import loader as loader_module
from gateway.images.decode import decode
from gateway.images.loader import _Wanted
from gateway.images.source import decode_base64
from gateway.images.worker import NICE
from tests.images.conftest import PARAM, Loading
from tests.images.pictures import data_url, encoded, noisy, png, url_of

Make = Callable[..., Loading]

LOADER = Loading().loader
wanted = st.builds(
    _Wanted,
    side=st.integers(1, 400),
    fit=st.sampled_from(["pad", "crop", "squash"]),
    scope=st.text(max_size=5),
)


def noise(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


# Keys


@given(st.binary(max_size=40), st.binary(max_size=40), wanted, wanted)
def test_keys_are_equal_exactly_where_everything_is(
    one: bytes, other: bytes, this: _Wanted, that: _Wanted
) -> None:
    same = LOADER._key(one, this) == LOADER._key(other, that)
    assert same == ((one, this) == (other, that))


def test_nothing_moves_from_one_part_of_the_key_to_the_next() -> None:
    # Written one after the other without lengths, both are "mepad1fastpad1fast!".
    mine = LOADER._key(b"pad1fast!", _Wanted(1, "pad", "me"))
    theirs = LOADER._key(b"!", _Wanted(1, "pad", "mepad1fast"))
    assert mine != theirs


def test_a_key_is_hex_and_known_to_this_loader_only() -> None:
    asked = b"picture", _Wanted(336, "pad", "me")
    key = LOADER._key(*asked)
    assert len(bytes.fromhex(key)) == 32
    assert Loading().loader._key(*asked) != key
    exact = Loading(image_decode="exact").loader
    exact._secret = LOADER._secret
    assert exact._key(*asked) != key


async def test_the_key_is_of_the_bytes_and_not_of_the_url(loading: Make) -> None:
    one = loading()
    data = encoded(noise())
    first = await one.load(data_url(data, "image/png"))
    second = await one.load(data_url(data, "image/jpeg"))
    assert first is second
    assert (await one.load(data_url(data), scope="you")).key != first.key


# Bounds


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
async def test_pixels_are_bounded_before_decoding(loading: Make, format_: str) -> None:
    one = loading(image_max_pixels=9999)
    with pytest.raises(ImageTooLarge) as caught:
        await one.load(url_of(Image.new("RGB", (100, 100)), format_))
    assert caught.value.message == f"{PARAM}: the image has 100 x 100 = 10000 pixels; the limit is 9999"
    assert one.count("gateway_image_seconds_count", step="fit") == 0
    await one.load(url_of(Image.new("RGB", (99, 101)), format_))


def bomb_png() -> bytes:
    return png((60_000, 60_000), 1, 0, bytes(60_000))


def bomb_gif() -> bytes:
    """A frame of 65535 x 65535 on a screen of 1 x 1."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame + b";"


def bomb_webp() -> bytes:
    """An extended header that says 16384 x 16384."""
    header = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\x3f\x00" * 2
    body = b"WEBP" + header + b"VP8L" + struct.pack("<I", 6) + b"\x2f\xff\xff\xff\x0f\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bomb_bmp() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def bomb_jpeg() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


@pytest.mark.parametrize("bomb", [bomb_png, bomb_gif, bomb_bmp, bomb_jpeg])
async def test_a_small_file_that_says_it_is_huge_is_refused(loading: Make, bomb: Callable[[], bytes]) -> None:
    with pytest.raises(ImageTooLarge, match="pixels"):
        await loading().load(data_url(bomb()))


async def test_a_side_is_bounded_whatever_the_pixels(loading: Make) -> None:
    one = loading()
    await one.load(url_of(Image.new("1", (65_535, 1))))
    with pytest.raises(ImageTooLarge) as caught:
        await one.load(url_of(Image.new("1", (1, 65_536))))
    assert caught.value.message == f"{PARAM}: the image has 1 x 65536 pixels; the limit is 65535 per side"


async def test_a_webp_that_says_it_is_huge_is_refused(loading: Make) -> None:
    with pytest.raises(ImageError):
        await loading().load(data_url(bomb_webp()))


async def test_a_jpeg_of_endless_scans_is_refused(loading: Make) -> None:
    data = encoded(noise(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scans = data[:last] + data[last:-2] * 100 + data[-2:]
    with pytest.raises(ImageTooLarge, match="more than 100 scans"):
        await loading().load(data_url(scans))


async def test_marks_of_scans_behind_a_jpegs_only_scan_are_of_no_account(loading: Make) -> None:
    # Cameras and editors put previews and whole films behind a picture.
    await loading().load(data_url(encoded(noise(), "JPEG") + b"\xff\xda" * 200))


async def test_a_sequential_jpeg_of_a_scan_a_channel_is_counted_like_a_progressive_one(loading: Make) -> None:
    data = encoded(noise(), "JPEG")
    start = data.index(b"\xff\xda")
    # The scan says that it has one channel: the decoder would wait for the others and read all that comes.
    one_channel = data[:start] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[start + 14 : -2]
    with pytest.raises(ImageTooLarge, match="more than 100 scans"):
        await loading().load(data_url(one_channel + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 100))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
async def test_only_threads_that_decode_large_pictures_step_back(
    loading: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    priorities: list[int] = []

    def decoded(image: Any, shrink: int) -> Any:
        priorities.append(os.getpriority(os.PRIO_PROCESS, 0))
        return decode(image, shrink=shrink)

    monkeypatch.setattr(loader_module, "decode", decoded)
    one, before = loading(), os.getpriority(os.PRIO_PROCESS, 0)
    await one.load(url_of(Image.new("RGB", (2000, 2000))))
    await one.load(url_of(Image.new("RGB", (2000, 2001))))
    assert priorities == [before, before + NICE]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_threads_step_back_from_their_processs_priority() -> None:
    def stepped_back() -> int:
        os.setpriority(os.PRIO_PROCESS, 0, before + 10)  # of this thread
        loader_module._lower_priority()
        return os.getpriority(os.PRIO_PROCESS, 0)

    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(stepped_back).result() == min(before + 10 + NICE, 19)


async def test_a_larger_limit_than_pillows_own_is_kept_without_its_warning(loading: Make) -> None:
    picture = await loading(image_max_pixels=200_000_000, image_max_bytes=10**8).load(
        data_url(encoded(Image.new("1", (10_000, 9_500))))
    )
    assert picture.pixels.getpixel((0, 0)) == (0, 0, 0)


async def test_bytes_are_bounded(loading: Make) -> None:
    data = encoded(noise())
    await loading(image_max_bytes=len(data)).load(data_url(data))
    with pytest.raises(ImageTooLarge, match=f"the image has {len(data)} bytes; the limit is {len(data) - 1}"):
        await loading(image_max_bytes=len(data) - 1).load(data_url(data))


# Sharing


async def test_a_picture_asked_for_again_is_not_decoded_again(loading: Make) -> None:
    one = loading()
    url = url_of(noise())
    assert await one.load(url) is await one.load(url)
    assert one.count("gateway_image_cache_total", result="miss") == 1
    assert one.count("gateway_image_cache_total", result="hit") == 1
    assert one.count("gateway_image_seconds_count", step="fit") == 1
    assert one.count("gateway_images_total", source="data", format="png") == 2
    assert one.count("gateway_image_cache_bytes") == 4 * 56**2


async def test_a_cache_of_no_bytes_keeps_nothing(loading: Make) -> None:
    one = loading(image_cache_bytes=0)
    url = url_of(noise())
    assert (await one.load(url)).key == (await one.load(url)).key
    assert one.count("gateway_image_seconds_count", step="fit") == 2


async def test_a_picture_asked_for_many_times_at_once_is_decoded_once(loading: Make) -> None:
    one = loading(image_cache_bytes=0)
    url = url_of(noise(size=(1000, 800)))
    pictures = await asyncio.gather(*(one.load(url) for _ in range(8)))
    assert all(picture is pictures[0] for picture in pictures)
    assert one.count("gateway_image_seconds_count", step="fit") == 1


async def test_every_one_of_those_is_told_its_own_part_of_what_is_broken(loading: Make) -> None:
    one = loading()
    data = encoded(noise(), "JPEG")
    url = data_url(data[: len(data) // 2])
    errors = await asyncio.gather(
        *(one.load(url, param=f"part {i}") for i in range(3)), return_exceptions=True
    )
    assert [str(error) for error in errors] == [f"part {i}: the image is broken or cut off" for i in range(3)]


async def test_many_different_pictures_at_once_come_out_each_as_itself(loading: Make) -> None:
    one = loading()
    colours = [(i * 8, 255 - i * 8, i * 3) for i in range(32)]
    pictures = await asyncio.gather(*(one.load(url_of(Image.new("RGB", (300, 200), c))) for c in colours))
    assert [picture.pixels.getpixel((5, 5)) for picture in pictures] == colours
    assert len({picture.key for picture in pictures}) == 32


# Fairness


async def test_a_callers_flood_of_files_to_open_waits_behind_itself(
    loading: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, gate = loading(image_threads=1), threading.Event()
    opened: list[int] = []

    def reading(source: Any, *, max_bytes: int) -> bytes:
        gate.wait(10)
        data = decode_base64(source, max_bytes=max_bytes)
        opened.append(len(data))
        return data

    monkeypatch.setattr(loader_module, "decode_base64", reading)
    small, large = encoded(noise()), encoded(noise(), "JPEG") + bytes(100_000)
    flood = [asyncio.create_task(one.load(data_url(large + bytes([n])))) for n in range(20)]
    await asyncio.sleep(0)
    ann = asyncio.create_task(one.load(data_url(small), caller=Caller("ann", "ann", CallerClass())))
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(ann, *flood)
    assert opened.index(len(small)) == 1


# Leaving


class Gate:
    """Holds up the decoding threads until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.most = self.inside = 0

        def held(*args: Any, **options: Any) -> Any:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.entered.set()
            assert self.opened.wait(10)
            self.inside -= 1
            return decode(*args, **options)

        monkeypatch.setattr(loader_module, "decode", held)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - threads set no asyncio event.
            await asyncio.sleep(0.001)


async def test_one_who_leaves_while_decoding_gives_permits_back_when_the_thread_is_through(
    loading: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, gate = loading(), Gate(monkeypatch)
    leaves = asyncio.create_task(one.load(url_of(noise())))
    await until(gate.entered.is_set)
    leaves.cancel()
    await asyncio.wait({leaves})
    assert leaves.cancelled()
    assert one.memory._small.taken > 0
    gate.opened.set()
    await until(lambda: one.memory._small.taken == 0)


async def test_one_who_leaves_while_waiting_for_permits_leaves_nothing_behind(
    loading: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, gate = loading(memory_pixels=8 * 2**20, image_threads=4), Gate(monkeypatch)
    first = asyncio.create_task(one.load(url_of(noise(1))))
    await until(gate.entered.is_set)
    leaves, stays = (asyncio.create_task(one.load(url_of(noise(seed)))) for seed in (2, 3))
    await until(lambda: one.memory._small.waiting == 2)
    leaves.cancel()
    gate.opened.set()
    await asyncio.gather(first, stays)
    assert gate.most == 1
    assert one.memory._small.taken == 0
    assert one.count("gateway_image_seconds_count", step="fit") == 2


async def test_one_who_leaves_does_not_take_the_picture_from_another(
    loading: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, gate = loading(), Gate(monkeypatch)
    url = url_of(noise())
    leaves, stays = (asyncio.create_task(one.load(url)) for _ in range(2))
    await until(gate.entered.is_set)
    await until(lambda: next(iter(one.loader._flights._flights.values())).waiters == 2)
    leaves.cancel()
    gate.opened.set()
    assert (await stays).pixels.size == (56, 56)


async def test_closing_ends_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    one, gate = Loading(), Gate(monkeypatch)
    asked = asyncio.create_task(one.load(url_of(noise())))
    await until(gate.entered.is_set)
    closing = asyncio.create_task(one.loader.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    gate.opened.set()
    await closing
    assert asked.cancelled()
    pools = (one.loader._threads, one.loader._large_threads)
    assert [thread for pool in pools for thread in pool._threads._threads if thread.is_alive()] == []


def test_a_loader_that_never_loads_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ThreadPoolExecutor, "_adjust_thread_count", start)
    Loading()


# The event loop


async def longest_gap(work: asyncio.Task[Any]) -> float:
    clock = asyncio.get_running_loop().time
    longest, last = 0.0, clock()
    while not work.done():
        await asyncio.sleep(0.001)
        now = clock()
        longest, last = max(longest, now - last), now
    return longest


@pytest.mark.slow  # seconds of decoding
@pytest.mark.parametrize("decode", ["fast", "exact"])
async def test_the_event_loop_goes_on_while_12_megapixels_are_decoded(loading: Make, decode: str) -> None:
    one = loading(image_cache_bytes=0, image_decode=decode)
    url = url_of(noisy(4000, 3000), "JPEG", quality=88)
    assert len(url) > 3_000_000
    gaps = [await longest_gap(asyncio.create_task(one.load(url, side=336))) for _ in range(5)]
    # A machine busy with something else may hold up a try, not all of them.
    assert min(gaps) < 0.1  # and not the 0.4 s that decoding takes
