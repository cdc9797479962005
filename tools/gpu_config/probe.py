"""vLLM's whole configuration of every profile that fits a GPU, built as if on it: one line of JSON a profile.

`python -m tools.gpu_config.probe GPU FOLDER`, with the CUDA build of vLLM on PYTHONPATH. FOLDER gets the
models' configurations.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from engine_config import plan as plans
from engine_config import profile as profiles
from engine_config.machine import GIB, KNOWN, GPUs, Machine
from engine_config.plan import DoesNotFit, Plan
from engine_config.shape import Shape
from gateway.engine import environment
from gateway.engine.vllm_model import engine_arguments
from tools.full_shape.shape import Shape as FullShape
from tools.gpu_config import driver

NOWHERE = Path("/nonexistent")


def main(gpu: str, folder: str) -> None:
    """Print what vLLM chooses for each profile that fits this GPU, beside what the plan says."""
    driver.install(KNOWN[gpu])
    environment.CUDA = NOWHERE
    machine = Machine(GPUs("found", (KNOWN[gpu],), "580.65.06"), cores=8, memory=64 * GIB)
    for name in profiles.names():
        profile = profiles.load(name)
        shape = plans.shape_of(profile)
        assert shape is not None
        if profile.device == "cpu":
            continue
        try:
            plan = plans.fit(profile, shape, machine)
        except DoesNotFit:
            continue
        model = profile.model_path if profile.is_local else str(_model(Path(folder) / name, shape))
        print(json.dumps(_chosen(dataclasses.replace(plan.profile, model=model), plan, shape)), flush=True)


def _chosen(profile: Any, plan: Plan, shape: Shape) -> dict[str, Any]:
    # As in an image without CUDA's toolkit.
    with environment.applied(environment.of_engine(profile, {"PATH": str(NOWHERE)})):
        from vllm.config import set_current_vllm_config
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.utils.system_utils import get_mp_context
        from vllm.v1.attention.selector import get_attn_backend
        from vllm.v1.sample.ops.topk_topp_sampler import flashinfer_sampler_supported

        from gateway.engine import vllm_profile

        assert current_platform.is_cuda()
        vllm_profile.check(profile)
        arguments = AsyncEngineArgs(**engine_arguments(profile, 7))
        config = arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)
        dtype = config.model_config.dtype
        with set_current_vllm_config(config):
            backend = get_attn_backend(shape.head_size, dtype, config.cache_config.cache_dtype)
        vision = config.model_config.hf_config.vision_config
        size = vision.hidden_size // vision.num_attention_heads
        return {
            "profile": profile.name,
            "start_method": get_mp_context().get_start_method(),
            "dtype": str(dtype).removeprefix("torch."),
            "quantization": config.model_config.quantization,
            "method": type(config.quant_config).__name__ if config.quant_config else None,
            "load_format": str(config.load_config.load_format),
            "attention": backend.get_name(),
            "planned_attention": plan.attention_backend,
            "vision_attention": current_platform.get_vit_attn_backend(size, dtype).name,
            "sampler": "FlashInfer" if flashinfer_sampler_supported() else "Triton",
            "graphs": config.compilation_config.cudagraph_mode.name != "NONE",
            "context": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "step": config.scheduler_config.max_num_batched_tokens,
            "planned_step": plans.step(profile.engine, KNOWN[sys.argv[1]]),
        }


def _model(folder: Path, shape: Shape) -> Path:
    """Write the configuration of a model of this shape, and of its tokenizer; return its folder."""
    folder.mkdir()
    for file in (profiles.FOLDER / "demo_model").glob("*.json"):
        shutil.copy(file, folder)
    config = FullShape().config()
    config["text_config"] |= {
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    main(*sys.argv[1:])
