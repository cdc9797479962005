"""What fits where is said before anything is fetched, with the numbers."""

import dataclasses
from typing import Any

import pytest

from engine_config import plan as plans
from engine_config import profile as profiles
from engine_config.machine import GIB, GPU, KNOWN, GPUs, Machine
from engine_config.plan import CHAT, DoesNotFit, Plan
from engine_config.profile import EngineProfile
from tests.each import each

CPU = Machine(GPUs("no GPU"), cores=8, memory=24 * GIB)


def machine(*gpus: GPU, memory: int = 64 * GIB) -> Machine:
    return Machine(GPUs("found", gpus, "580.65.06"), cores=8, memory=memory)


def fit(name: str, where: Machine, **engine: Any) -> Plan:
    profile = profiles.load(name)
    return fit_profile(dataclasses.replace(profile, engine={**profile.engine, **engine}), where)


def fit_profile(profile: EngineProfile, where: Machine) -> Plan:
    shape = plans.shape_of(profile)
    assert shape is not None
    return plans.fit(profile, shape, where)


@each("name", ["llava-1.5-7b", "llava-1.5-7b-4bit", "llava-1.5-13b-4bit", "llava-1.5-7b-fp8"])
@each("gpu", KNOWN)
def test_parts_are_the_whole(name: str, gpu: str) -> None:
    try:
        plan = fit(name, machine(KNOWN[gpu]))
    except DoesNotFit:
        assert (
            gpu
            in {"llava-1.5-7b": ["T4"], "llava-1.5-7b-fp8": ["T4", "A10G", "RTX3090", "A100-40", "A100-80"]}[
                name
            ]
        )
        return
    assert plan.weights + plan.computing + plan.kv_cache == plan.room
    assert plan.room <= 0.9 * KNOWN[gpu].memory
    assert plan.kv_tokens * plan.token <= plan.kv_cache < (plan.kv_tokens + 16) * plan.token
    assert plan.chats >= 4
    assert plan.context == 4096
    # vLLM refuses to start where not even one request fits.
    assert plan.kv_tokens >= plan.context
    assert 8 <= plan.max_num_seqs <= 256


def test_sequences_at_once_come_from_the_memory() -> None:
    seqs = {
        name: fit("llava-1.5-7b", machine(KNOWN[name])).max_num_seqs for name in ("L4", "A100-40", "H200")
    }
    assert seqs == {"L4": 22, "A100-40": 84, "H200": 256}
    assert fit("llava-1.5-7b", machine(KNOWN["L4"]), max_num_seqs=3).max_num_seqs == 3
    assert fit("llava-1.5-7b", machine(KNOWN["L4"]), max_num_seqs=3).chats == 3


def test_longer_requests_are_fewer_at_once() -> None:
    plan = fit("llava-1.5-7b", machine(KNOWN["L4"]))
    assert [plan.at_once(tokens) for tokens in (CHAT, 2048, 4096)] == [11, 5, 2]


def test_gpu_that_is_too_small_is_told_with_what_is_needed() -> None:
    with pytest.raises(DoesNotFit) as caught:
        fit("llava-1.5-7b", machine(GPU("RTX 3070", 8 * GIB, (8, 6))))
    assert str(caught.value) == (
        "RTX 3070 has 8.0 GiB, of which the engine may take 7.1 GiB; llava-1.5-7b needs 14.9 GiB: "
        "13.1 GiB for its weights, 1.3 GiB to compute and 0.5 GiB for a context of 1024 tokens"
    )


def test_memory_that_others_use_is_not_planned_with() -> None:
    alone = fit("llava-1.5-7b", machine(KNOWN["RTX4090"]))
    desktop = fit("llava-1.5-7b", machine(dataclasses.replace(KNOWN["RTX4090"], used=3 * GIB)))
    assert alone.profile.engine["gpu_memory_utilization"] == 0.9
    assert desktop.profile.engine["gpu_memory_utilization"] == 0.85
    assert desktop.chats < alone.chats
    with pytest.raises(DoesNotFit, match=r"\(20\.0 GiB are in use\)"):
        fit("llava-1.5-7b", machine(dataclasses.replace(KNOWN["RTX4090"], used=20 * GIB)))


def test_context_shrinks_to_what_there_is_unless_the_profile_names_it() -> None:
    small = machine(GPU("a GPU", int(7.5 * GIB), (8, 6)))
    plan = fit("llava-1.5-7b-4bit", small)
    assert plan.context == 2304
    assert plan.kv_tokens >= plan.context
    assert plan.notes == ("a context of 2304 tokens in place of 4096, for want of memory",)
    with pytest.raises(DoesNotFit, match="for a context of 4096 tokens"):
        fit("llava-1.5-7b-4bit", small, max_model_len=4096)


def test_model_that_is_too_large_for_one_gpu_is_split() -> None:
    l4 = KNOWN["L4"]
    with pytest.raises(DoesNotFit):
        fit("llava-1.5-13b", machine(l4))
    plan = fit("llava-1.5-13b", machine(l4, l4))
    assert plan.gpus == plan.profile.engine["tensor_parallel_size"] == 2
    assert plan.notes == ("split over 2 GPUs",)
    assert plan.token == 400 * 1024
    # One that fits is not.
    assert "tensor_parallel_size" not in fit("llava-1.5-7b", machine(l4, l4)).profile.engine
    with pytest.raises(DoesNotFit, match=r"asks for 2 GPUs .*; this machine has 1"):
        fit("llava-1.5-7b", machine(l4), tensor_parallel_size=2)


def test_the_smallest_of_several_gpus_decides() -> None:
    with pytest.raises(DoesNotFit, match="Tesla T4"):
        fit("llava-1.5-13b", machine(KNOWN["L4"], KNOWN["T4"]))


def test_turing_gets_half_precision_and_tritons_attention() -> None:
    plan = fit("demo", machine(KNOWN["T4"]))
    assert plan.profile.engine["dtype"] == "float16"
    assert plan.attention_backend == "TRITON_ATTN"
    assert fit("demo", machine(KNOWN["L4"])).profile.engine["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("name", "where", "asked", "backend"),
    [
        ("llava-1.5-7b", machine(KNOWN["L4"]), {}, "FLASH_ATTN"),
        ("llava-1.5-7b-4bit", machine(KNOWN["T4"]), {}, "TRITON_ATTN"),
        ("llava-1.5-7b", machine(KNOWN["L4"]), {"attention_backend": "flashinfer"}, "FLASHINFER"),
        ("demo", CPU, {}, "CPU_ATTN"),
    ],
)
def test_attention_backend_is_planned(name: str, where: Machine, asked: dict[str, Any], backend: str) -> None:
    assert fit(name, where, **asked).attention_backend == backend


def test_what_a_gpu_cannot_compute_is_told() -> None:
    with pytest.raises(DoesNotFit) as caught:
        fit("llava-1.5-7b-fp8", machine(KNOWN["A10G"]))
    assert str(caught.value) == "llava-1.5-7b-fp8 needs compute capability 8.9; NVIDIA A10G has 8.6"
    with pytest.raises(DoesNotFit, match=r"compute capability 7\.0; vLLM needs 7\.5"):
        fit("llava-1.5-7b", machine(GPU("Tesla V100", 32 * GIB, (7, 0))))


def test_the_real_model_on_a_cpu() -> None:
    plan = fit("llava-1.5-7b-cpu", CPU)
    assert plan.profile.engine["kv_cache_memory_bytes"] == plan.kv_cache == 4 * GIB
    assert (plan.context, plan.max_num_seqs, plan.kv_tokens) == (4096, 4, 8192)
    assert plan.notes[0].startswith("slow: ")
    with pytest.raises(DoesNotFit, match=r"of this machine's 16\.0 GiB of memory 13\.0 GiB are left"):
        fit("llava-1.5-7b-cpu", Machine(GPUs("no GPU"), 8, 16 * GIB))


def test_the_demo_runs_as_its_profile_says() -> None:
    plan = fit("demo", CPU)
    assert plan.profile == profiles.load("demo")
    assert plan.kv_tokens == GIB // (2 * 5 * 192 * 2) // 128 * 128
    assert plan.chats == 40


def test_kv_cache_that_does_not_hold_the_context_is_told() -> None:
    profile = profiles.load("llava-1.5-7b-cpu")
    with pytest.raises(DoesNotFit) as caught:
        fit_profile(dataclasses.replace(profile, environment={"VLLM_CPU_KVCACHE_SPACE": "1"}), CPU)
    assert str(caught.value) == (
        "llava-1.5-7b-cpu: environment.VLLM_CPU_KVCACHE_SPACE = 1 (GiB) has room for 2,048 tokens; "
        "a context of 4,096 needs 2.0 GiB"
    )


def test_quantization_whose_size_is_unknown_is_not_guessed() -> None:
    with pytest.raises(DoesNotFit, match="what weights take with quantization = 'awq' is not known"):
        fit("llava-1.5-7b", machine(KNOWN["H100"]), quantization="awq")
