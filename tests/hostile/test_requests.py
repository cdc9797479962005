"""Each hostile request has its exact answer, and after each the next honest one is answered."""

import pytest

from tests.hostile.addresses import ADDRESSES
from tests.hostile.cases import Case, holds, of_url, outcome, posted, serves
from tests.hostile.parameters import PARAMETERS
from tests.hostile.pictures import FLIPS, PICTURES, flipped
from tests.hostile.prompts import PROMPTS
from tests.images.pictures import data_url
from tests.servers import Gateway

CASES = [*PARAMETERS, *PROMPTS, *ADDRESSES, *PICTURES]


@pytest.mark.parametrize("case", CASES, ids=[case.name[:60] for case in CASES])
async def test_a_hostile_request_has_its_answer_and_the_next_honest_one_too(
    attacked: Gateway, case: Case
) -> None:
    await holds(attacked, case)


@pytest.mark.parametrize(("format_", "seed"), FLIPS)
async def test_a_picture_with_flipped_bits_is_read_or_refused(
    attacked: Gateway, format_: str, seed: int
) -> None:
    """Which of the two is the decoder's business."""
    answer = await posted(attacked, Case("", of_url(data_url(flipped(format_, seed)))).made)
    assert outcome(answer) in {
        (200, None),
        (400, "invalid_image"),
        (400, "unsupported_image_format"),
        (400, "image_too_large"),
    }
    await serves(attacked)
