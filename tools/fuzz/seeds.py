"""What the search starts from: the pictures, URLs and answers of the hostile suite, small ones."""

from collections.abc import Callable, Iterable, Iterator

from tests.hostile.addresses import ADDRESSES
from tests.hostile.cases import Case
from tests.hostile.pictures import DATA_URLS, FORMATS, UNKNOWN, turned, whole
from tests.hostile.test_origins import ORIGINS
from tests.images.pictures import encoded, noisy
from tests.images.test_heic import heic

LARGEST = 20_000  # bytes


def _urls() -> Iterator[bytes]:
    cases: list[Case] = [*ADDRESSES, *DATA_URLS]
    for case in cases:
        body = case.body() if callable(case.body) else case.body
        url: str = body["messages"][0]["content"][1]["image_url"]["url"]
        yield url.encode("utf-8", "surrogateescape")


def _pictures() -> Iterator[bytes]:
    yield from map(whole, FORMATS)
    yield from UNKNOWN.values()
    yield from (turned(number) for number in range(9))
    small = noisy(16, 16)
    for mode in ("1", "L", "P", "LA", "RGBA", "I;16"):
        yield encoded(small.convert("L" if mode == "I;16" else "RGB").convert(mode), "PNG")
    yield encoded(small, "JPEG", progressive=True)
    yield encoded(small.convert("CMYK"), "JPEG")
    yield heic(small, tile_size=8)
    for mode, compression in (("1", "group4"), ("RGB", "jpeg"), ("CMYK", None), ("P", "packbits")):
        yield encoded(small.convert(mode), "TIFF", compression=compression)


SEEDS: dict[str, Callable[[], Iterable[bytes]]] = {
    "decoding": _pictures,
    "sources": _urls,
    "fetching": lambda: (b"".join(origin.pieces) for origin in ORIGINS if not origin.endless),
}


def of(target: str) -> list[bytes]:
    """Return the seeds of a target, none of them large."""
    return [seed for seed in SEEDS[target]() if len(seed) <= LARGEST]
