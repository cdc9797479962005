"""Numbers fit the integer and float widths of vLLM's processes, on a GPU too."""

import importlib
import struct
from typing import Any

import pytest

from gateway.engine.interface import Job, Sampling

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

TINY = 5e-324


def given(**fields: Any) -> Any:
    """Return vLLM's parameters for a job, as decoded in the core's process."""
    made = importlib.import_module("gateway.engine.vllm_sampling")
    return decoded(made.sampling_params(Job("id", [1], (), Sampling(1, **fields))))


def decoded(params: Any) -> Any:
    serial = importlib.import_module("vllm.v1.serial_utils")
    return serial.MsgpackDecoder(type(params)).decode(serial.MsgpackEncoder().encode(params))


def seeds(seed: int, n: int) -> list[int]:
    """Return the seed of each choice in the core's process."""
    parallel = importlib.import_module("vllm.v1.engine.parallel_sampling")
    made = importlib.import_module("gateway.engine.vllm_sampling")
    params = made.sampling_params(Job("id", [1], (), Sampling(1, n=n, seed=seed)))
    if n == 1:
        return [decoded(params).seed]
    parent = parallel.ParentRequest.__new__(parallel.ParentRequest)
    parent.sampling_params, parent.cached_child_sampling_params = params, None
    return [decoded(parent._get_child_sampling_params(choice)).seed for choice in range(n)]


@pytest.mark.parametrize("n", [1, 2, 16])
def test_every_choice_of_every_seed_has_a_seed_of_64_bits(n: int) -> None:
    for seed in (-(2**63), -17, -16, -15, -2, -1, 0, 2**31, 2**63 - n):
        found = seeds(seed, n)
        struct.pack(f"{n}q", *found)  # raises where one is none, or too wide
        assert found == list(range(found[0], found[0] + n))


def test_seeds_around_minus_one_differ() -> None:
    firsts = [seeds(seed, 1)[0] for seed in range(-20, 5)]
    assert len(set(firsts)) == len(firsts)
    assert seeds(-1, 1) == seeds(-1, 2)[:1]


def test_numbers_that_32_bits_cannot_tell_from_0_stay_in_range() -> None:
    params = given(temperature=TINY, top_p=TINY)
    assert (params.temperature, params.top_p) == (0.01, 1e-6)
    assert given(temperature=0).temperature == 0
