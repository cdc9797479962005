"""What is fuzzed: bytes go in, and only the client's errors may come out. `tools.fuzz` runs each.

python -m tools.fuzz.targets NAME [libFuzzer's options] CORPUS
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["gateway.images", "PIL", "yarl", "aiohttp"]):
    from gateway.access.callers import Caller
    from gateway.access.keys import CallerClass
    from gateway.errors import ImageError
    from gateway.images.decode import decode
    from gateway.images.fetch import Fetcher
    from gateway.images.header import memory_for, open_image, read_header
    from gateway.images.source import DataURL, FileID, WebURL, address_of, decode_base64, parse
    from gateway.images.square import shrink_factor, square
    from gateway.settings import load
    from gateway.telemetry.metrics import Metrics

MAX_PIXELS = 1_000_000  # so that each run is short
SIDE = 56
LIMIT = 2**20
ME = Caller("me", "me", CallerClass())


def decoding(data: bytes) -> None:
    """An image is refused, or becomes a square RGB one within the memory that was foretold."""
    with suppress(ImageError):
        header = read_header(data, max_pixels=MAX_PIXELS)
        image = open_image(data, max_pixels=MAX_PIXELS)
        # The largest picture of several in a HEIC, or one that is to be turned, has another size.
        assert image.size == header.size or header.format in {"heic", "tiff"}, (image.size, header.size)
        shrink = shrink_factor(image.size, "pad", SIDE)
        assert memory_for(image, shrink) > 0
        pixels = square(decode(image, shrink=shrink), "pad", SIDE)
        assert (pixels.size, pixels.mode) == ((SIDE, SIDE), "RGB")


def sources(data: bytes) -> None:
    """A URL is refused, or leads to bytes within the limit, a name, or an address in its usual spelling."""
    url = data.decode("utf-8", "surrogateescape")
    with suppress(ImageError):
        source = parse(url, param="x", max_bytes=LIMIT)
        match source:
            case DataURL():
                assert 0 < len(decode_base64(source, max_bytes=LIMIT)) <= min(LIMIT, source.at_most)
            case WebURL():
                host = source.url.raw_host or ""
                assert source.url.scheme in {"http", "https"}
                assert not host.rstrip(".").rpartition(".")[2].isdecimal() or address_of(host) is not None
            case FileID():
                raise AssertionError("a URL is no file's id")


def fetching() -> Callable[[bytes], None]:
    """Return what has a server of its own answer with the bytes: they are fetched, or the URL's fault."""
    loop = asyncio.new_event_loop()
    said = b""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()
            writer.close()

    settings = load(fetch_allow=("127.0.0.1/32",), fetch_timeout=2, image_max_bytes=LIMIT)
    fetcher = Fetcher(settings, Metrics())
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    source = parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", param="x", max_bytes=LIMIT)
    assert isinstance(source, WebURL)
    url = source.url

    async def claim(size: int) -> None:
        assert 0 < size <= LIMIT

    def one(data: bytes) -> None:
        nonlocal said
        # Most of what is tried is about the head's fields, not about how a status line is spelt.
        said = data if data.startswith(b"HTTP/") else b"HTTP/1.1 200 OK\r\n" + data
        with suppress(ImageError):
            assert len(loop.run_until_complete(fetcher.fetch(url, ME, claim))) <= LIMIT

    return one


def main() -> None:
    name = sys.argv.pop(1)
    target = {"decoding": lambda: decoding, "sources": lambda: sources, "fetching": fetching}[name]()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
