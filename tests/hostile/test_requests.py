"""Each hostile request has its exact answer, and the honest ones between them are answered."""

import asyncio

import pytest

from tests.hostile.addresses import ADDRESSES
from tests.hostile.cases import answers, of_picture, outcome, posted, serves
from tests.hostile.parameters import PARAMETERS
from tests.hostile.pictures import FLIPS_EACH, FORMATS, PICTURES, cut_pieces, flipped, whole
from tests.hostile.prompts import PROMPTS
from tests.servers import Gateway

pytestmark = pytest.mark.slow

TABLES = {"parameters": PARAMETERS, "prompts": PROMPTS, "addresses": ADDRESSES, "pictures": PICTURES}
GROUP = 20  # cases between two honest requests


@pytest.mark.parametrize("table", TABLES)
async def test_each_hostile_request_has_its_answer_and_the_honest_ones_between_too(
    attacked: Gateway, table: str
) -> None:
    wrong = []
    for number, case in enumerate(TABLES[table], 1):
        try:
            await answers(attacked, case)
            if number % GROUP == 0:
                await serves(attacked)
        except (AssertionError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            wrong.append(f"{case.name}: {error!r}"[:400])
    await serves(attacked)
    assert wrong == []


READ_OR_REFUSED = {
    (200, None),
    (400, "invalid_image"),
    (400, "unsupported_image_format"),
    (400, "image_too_large"),
}


@pytest.mark.parametrize("format_", FORMATS)
async def test_a_picture_cut_anywhere_is_refused(attacked: Gateway, format_: str) -> None:
    for data in cut_pieces(format_):
        case = of_picture(f"{format_} cut at {len(data)}", data, "")
        answer = await posted(attacked, case.made)
        # What a picture lacks at its very end, some decoders can do without.
        allowed = (
            READ_OR_REFUSED if len(data) > 0.9 * len(whole(format_)) else READ_OR_REFUSED - {(200, None)}
        )
        assert outcome(answer) in allowed, (case.name, answer.body)
    await serves(attacked)


@pytest.mark.parametrize("format_", FORMATS)
async def test_a_picture_with_flipped_bits_is_read_or_refused(attacked: Gateway, format_: str) -> None:
    """Which of the two is the decoder's business."""
    for seed in range(FLIPS_EACH):
        case = of_picture(f"{format_} flipped by {seed}", flipped(format_, seed), "")
        answer = await posted(attacked, case.made)
        assert outcome(answer) in READ_OR_REFUSED, (case.name, answer.body)
    await serves(attacked)
