"""How tokens are drawn, also where a request leaves it open."""

from typing import Any

import pytest

from gateway.errors import InvalidValue
from gateway.generation.sampling import sampling_of, with_defaults
from tests.scripted_engine import MODEL


@pytest.mark.parametrize(
    ("given", "profile", "drawn"),
    [
        ({}, {"temperature": 0.2, "top_p": 0.7}, {"temperature": 0.2, "top_p": 0.7}),
        ({"n": 2}, {"temperature": 0.2, "top_p": 0.7}, {"n": 2, "temperature": 0.2, "top_p": 0.7}),
        ({"temperature": 0}, {"temperature": 0.2, "top_p": 0.7}, {"temperature": 0}),
        ({"top_p": 0.9}, {"temperature": 0.2, "top_p": 0.7}, {"top_p": 0.9}),
        ({"top_p": 0.9}, {"temperature": 0.2}, {"top_p": 0.9}),
        ({}, {}, {}),
    ],
)
def test_temperature_and_top_p_are_one_decision(
    given: dict[str, Any], profile: dict[str, float], drawn: dict[str, Any]
) -> None:
    assert with_defaults(given, profile) == drawn


def test_a_top_p_of_0_is_greedy() -> None:
    sampling = sampling_of(with_defaults({"top_p": 0, "temperature": 1.5}, {"temperature": 0.2}), MODEL, 1)
    assert (sampling.temperature, sampling.top_p) == (0, 1)


def test_the_seed_of_the_last_choice_has_64_bits() -> None:
    assert sampling_of({"seed": 2**63 - 16, "n": 16}, MODEL, 1).seed == 2**63 - 16
    with pytest.raises(InvalidValue, match=r"seed: it must be at most 9223372036854775792 .*; got 92233720"):
        sampling_of({"seed": 2**63 - 15, "n": 16}, MODEL, 1)
