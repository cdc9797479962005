"""With paced steps every request finishes, even if the KV cache is too small for all."""

import importlib
import random
from typing import Any

import pytest

from engine_config import profile as profiles
from gateway.engine.pacing import ALONE

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

BLOCK, PLACES, CONTEXT = 16, 8, 2048  # tokens, requests at once, tokens


@pytest.fixture(scope="module")
def config() -> Any:
    arguments = importlib.import_module("vllm.engine.arg_utils").EngineArgs(
        model=profiles.load("demo").model_path,
        dtype="bfloat16",
        max_model_len=CONTEXT,
        max_num_seqs=PLACES,
        enforce_eager=True,
        scheduling_policy="priority",
        gpu_memory_utilization=0.1,
        block_size=BLOCK,
        enable_prefix_caching=False,
    )
    return arguments.create_engine_config()


def scheduler(config: Any, blocks: int) -> Any:
    cache = importlib.import_module("vllm.v1.kv_cache_interface")
    kind = cache.FullAttentionSpec(
        block_size=BLOCK, num_kv_heads=1, head_size=16, dtype=importlib.import_module("torch").float32
    )
    config.cache_config.num_gpu_blocks = blocks
    return importlib.import_module("gateway.engine.vllm_scheduler").PacedScheduler(
        config,
        cache.KVCacheConfig(blocks, [], [cache.KVCacheGroupSpec(["layer"], kind)]),
        importlib.import_module("vllm.v1.structured_output").StructuredOutputManager(config),
        block_size=BLOCK,
    )


def request(number: int, draw: random.Random) -> Any:
    """Return a long text of eve's, or a short one of ann's, who has fewer running requests."""
    params = importlib.import_module("vllm").SamplingParams(max_tokens=draw.randrange(1, 20), ignore_eos=True)
    caller, length, priority = draw.choice(
        [("eve", draw.randrange(600, 1900), draw.randrange(40)), ("ann", draw.randrange(5, 40), 0)]
    )
    return importlib.import_module("vllm.v1.request").Request(
        f"{caller}-{number}", [1] * length, params, None, cache_salt=caller, priority=priority
    )


@pytest.mark.parametrize("blocks", [2000, 140])  # KV cache for all at once; for little more than one
def test_every_request_ends_and_gives_back_its_memory(config: Any, blocks: int) -> None:
    made, draw = scheduler(config, blocks), random.Random(0)
    output_of = importlib.import_module("vllm.v1.outputs").ModelRunnerOutput
    for number in range(40):
        made.add_request(request(number, draw))
    ended, idle = 0, 0
    while ended < 40:
        step = made.schedule()
        ids = list(step.num_scheduled_tokens)
        idle = 0 if ids else idle + 1
        assert idle < 3  # consecutive steps that compute nothing
        assert len(made.running) <= PLACES
        assert step.total_num_scheduled_tokens <= ALONE + PLACES
        whole = (made.requests[id_].num_computed_tokens >= made.requests[id_].num_tokens for id_ in ids)
        drawn = [[7] if complete else [] for complete in whole]
        output = output_of(ids, {id_: place for place, id_ in enumerate(ids)}, drawn)
        told = made.update_from_output(step, output).values() if ids else ()
        ended += sum(one.finished for outputs in told for one in outputs.outputs)
    assert made.kv_cache_manager.block_pool.get_num_free_blocks() == blocks - 1
    assert made.max_num_active_reqs == PLACES
