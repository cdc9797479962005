"""Pictures that are cut off or have flipped bits are read or refused, and nothing else."""

from collections.abc import Callable

import numpy as np
import pytest

from gateway.errors import GatewayError
from tests.hostile.pictures import FORMATS, whole
from tests.images.conftest import Loading
from tests.images.pictures import data_url

pytestmark = pytest.mark.slow

EACH = 25  # pictures of each format that are cut, and as many with flipped bits
REFUSED = ("invalid_image", "unsupported_image_format", "image_too_large")


def cut_pieces(format_: str) -> list[bytes]:
    """Return starts of a picture: of its first bytes, where formats have their headers, and of all."""
    data = whole(format_)
    header = EACH // 2
    places = [*range(1, 4 * header, 4), *np.linspace(4 * header, len(data) - 1, EACH - header).astype(int)]
    return [data[:place] for place in places]


def flipped(format_: str, seed: int) -> bytes:
    """Return a picture with twenty of its bits flipped, none of them in its first bytes."""
    data = bytearray(whole(format_))
    draw = np.random.default_rng(seed)
    for place in draw.integers(16, len(data), 20):
        data[place] ^= 1 << int(draw.integers(8))
    return bytes(data)


async def outcome(one: Loading, data: bytes) -> str | None:
    """Return the code of the error that refuses a picture; None if it is read. Other errors are raised."""
    try:
        await one.load(data_url(data))
    except GatewayError as error:
        return error.code
    return None


@pytest.mark.parametrize("format_", FORMATS)
async def test_a_picture_cut_anywhere_is_refused(loading: Callable[..., Loading], format_: str) -> None:
    one = loading()
    whole_length = len(whole(format_))
    wrong = []
    for data in cut_pieces(format_):
        found = await outcome(one, data)
        # What a picture lacks at its very end, some decoders can do without.
        if found not in REFUSED and not (found is None and len(data) > 0.9 * whole_length):
            wrong.append((len(data), found))
    assert wrong == []


@pytest.mark.parametrize("format_", FORMATS)
async def test_a_picture_with_flipped_bits_is_read_or_refused(
    loading: Callable[..., Loading], format_: str
) -> None:
    """Which of the two is the decoder's business."""
    one = loading()
    found = {seed: await outcome(one, flipped(format_, seed)) for seed in range(EACH)}
    assert {seed: code for seed, code in found.items() if code not in (None, *REFUSED)} == {}
