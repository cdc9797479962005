"""How tokens are drawn where a request leaves it open."""

from typing import Any

import pytest

from gateway.generation.sampling import with_defaults


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
