"""A profile is checked against the installed vLLM: names, types, and values in registries."""

import dataclasses
import re
from typing import Any

import pytest

from engine_config import profile as profiles
from engine_config.profile import EngineProfile, ProfileError

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def check(profile: EngineProfile) -> None:
    from gateway.engine import vllm_profile  # noqa: PLC0415  # imports vLLM, which takes seconds

    vllm_profile.check(profile)


def demo(**arguments: Any) -> EngineProfile:
    return dataclasses.replace(profiles.load("demo"), engine=arguments)


@pytest.mark.parametrize("name", [name for name in profiles.names() if not name.endswith("4bit")])
def test_shipped_profiles_are_right(name: str) -> None:
    check(profiles.load(name))


@pytest.mark.parametrize("name", ["llava-1.5-7b-4bit", "llava-1.5-13b-4bit"])
def test_quantization_whose_plug_in_is_not_installed_is_refused(name: str) -> None:
    """The CPU engine lacks it. vLLM itself reports that only when it builds its configuration."""
    with pytest.raises(ProfileError) as caught:
        check(profiles.load(name))
    assert str(caught.value) == (
        f"profile {name!r}: engine.quantization = 'bitsandbytes' is not known to this vLLM: "
        "install the package vllm-bnb-plugin"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"tensor_parallel_size": 2},
        {"attention_backend": "TRITON_ATTN"},
        {"attention_backend": "flash_attn"},
        {"load_format": "safetensors", "quantization": "fp8_per_block", "kv_cache_dtype": "fp8"},
        {"compilation_config": {"mode": 3}, "hf_overrides": {"vision_feature_layer": -2}},
        {"distributed_executor_backend": "mp", "scheduling_policy": "priority"},
        {"worker_extension_cls": "gateway.engine.vllm_worker.WorkerExtension"},
    ],
)
def test_any_argument_of_vllms_may_stand_in_a_profile(arguments: dict[str, Any]) -> None:
    check(demo(**arguments))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_num_sqs", 3, "is not an argument of vLLM's engine; did you mean max_num_seqs?"),
        ("colour", 3, "is not an argument of vLLM's engine"),
        ("quantization", "bits", "= 'bits' is not known to this vLLM; it knows auto_awq, "),
        ("attention_backend", "FLASH", "= 'FLASH' is not known to this vLLM; it knows "),
        ("load_format", "gguff", "= 'gguff' is not known to this vLLM; it knows auto, dummy, "),
        ("dtype", "float17", "= 'float17' is not right: Input should be 'auto', 'half', "),
        ("kv_cache_dtype", "fp9", "= 'fp9' is not right: Input should be 'auto', "),
        ("tensor_parallel_size", "two", "= 'two' is not right: Input should be a valid integer"),
        ("performance_mode", "fast", "= 'fast' is not right: Input should be 'balanced', "),
        ("compilation_config", {"mode": 7}, "= {'mode': 7} is not right: Input should be 0, 1, 2 or 3"),
        ("cudagraph_capture_sizes", [1, "b"], "= [1, 'b'] is not right: Input should be a valid integer"),
        ("distributed_executor_backend", "a.b", "= 'a.b' cannot be imported: No module named 'a'"),
        ("distributed_executor_backend", "ry", "= 'ry' is not known to this vLLM; it knows "),
        (
            "worker_cls",
            "gateway.engine.vllm_worker.No",
            "= 'gateway.engine.vllm_worker.No' cannot be imported",
        ),
    ],
)
def test_what_this_vllm_does_not_know_is_refused_by_its_key(key: str, value: Any, message: str) -> None:
    with pytest.raises(ProfileError, match="^" + re.escape(f"profile 'demo': engine.{key} {message}")):
        check(demo(**{key: value}))
