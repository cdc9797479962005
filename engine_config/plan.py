"""What fits where: a profile and a machine give the memory of each part and the engine's arguments.

Weights and a token's KV cache are exact (see `shape`). What computing takes is an estimate: on a GPU vLLM
measures it at its start and gives the KV cache what is left, which can be more or less than is planned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path
from typing import Any

from engine_config import machine as machines
from engine_config.machine import GIB, GPU, Machine, dotted
from engine_config.profile import EngineProfile
from engine_config.shape import DTYPE_BYTES, KNOWN, Shape, kv_cache_bytes_per_token

CHAT = 1000  # tokens of a picture chat: 576 of the picture, and some turns
GPU_SHARE = 0.9  # of a GPU's memory is the engine's, where the profile does not say otherwise
DRIVER_SHARE = 0.017  # of a GPU's memory is the driver's; nvidia-smi counts it in, CUDA does not
LEAST_CONTEXT = 1024  # tokens; less is not worth serving
SEQUENCES = (8, 256)  # least and most that the engine runs at once on a GPU
CPU_KV_CACHE = 4 * GIB  # is enough for the few chats that a CPU can answer at once
CPU_RESERVED = 3 * GIB  # of the gateway, the engine's other processes and the system
BLOCK = {"gpu": 16, "cpu": 128}  # tokens: vLLM's blocks
OUTSIDE_TORCH = 300 * 2**20  # workspaces of cuBLAS and the like
CUDA_GRAPHS = 700 * 2**20
NCCL = 600 * 2**20  # where several GPUs work together

# vLLM's `max_num_batched_tokens` where the profile does not say: EngineArgs.get_batch_defaults.
_STEP, _LARGE_STEP, _LARGE_GPU = 2048, 8192, 70 * GIB


class DoesNotFit(ValueError):
    """The profile cannot run here; the message says why, in numbers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How `profile`, with what the plan decides filled in, runs on a machine.

    Memory is in bytes: on each of the GPUs that are used, or of the machine where there are none.
    """

    profile: EngineProfile
    gpu: GPU | None
    gpus: int  # used, by tensor parallelism
    room: int  # what the engine may take
    weights: int
    computing: int  # activations, CUDA graphs and what is outside of PyTorch
    kv_cache: int
    token: int  # bytes of the KV cache for a token
    notes: tuple[str, ...] = ()

    @property
    def context(self) -> int:
        return self.profile.max_model_len

    @property
    def kv_tokens(self) -> int:
        """Return how many tokens the KV cache has room for: whole blocks."""
        return self.kv_cache // (self.token * self._block) * self._block

    @property
    def max_num_seqs(self) -> int:
        return int(self.profile.engine["max_num_seqs"])

    @property
    def chats(self) -> int:
        """Return how many picture chats of CHAT tokens have room at once, as many as the engine runs."""
        return min(self.at_once(CHAT), self.max_num_seqs)

    def at_once(self, tokens: int) -> int:
        """Return how many requests of this many tokens the KV cache has room for at once."""
        blocks = -(-tokens // self._block)
        return self.kv_tokens // (blocks * self._block)

    @property
    def attention_backend(self) -> str:
        return attention_backend(self.profile, self.gpu)

    @property
    def _block(self) -> int:
        return BLOCK["gpu" if self.gpu else "cpu"]


def shape_of(profile: EngineProfile) -> Shape | None:
    """Return the model's shape where it is known without fetching anything."""
    if profile.is_local:
        return Shape.from_folder(Path(profile.model_path))
    return KNOWN.get(profile.model)


def fit(profile: EngineProfile, shape: Shape, machine: Machine) -> Plan:
    """Return how the profile runs on this machine: on its GPUs where there are some, else on its CPU.

    Raises DoesNotFit.
    """
    gpu = machine.gpus.first
    if gpu is None or profile.device == "cpu":
        return _on_cpu(profile, shape, machine)
    _check_gpu(profile, gpu)
    asked = profile.engine.get("tensor_parallel_size")
    if asked is not None and asked > machine.gpus.count:
        raise DoesNotFit(
            f"{profile.name} asks for {asked} GPUs (engine.tensor_parallel_size); "
            f"this machine has {machine.gpus.count}"
        )
    sizes = [asked] if asked else _parallel_sizes(shape, machine.gpus.count)
    problem: DoesNotFit | None = None
    for size in sizes:
        try:
            smallest = min(machine.gpus.found[:size], key=lambda gpu: gpu.memory)
            return _on_gpus(profile, shape, smallest, size)
        except DoesNotFit as error:
            problem = error
    assert problem is not None
    raise problem


def attention_backend(profile: EngineProfile, gpu: GPU | None) -> str:
    """Return the attention backend that vLLM chooses, by its name; `make gpu-config` holds vLLM to it."""
    if asked := profile.engine.get("attention_backend"):
        return str(asked).upper()
    if gpu is None:
        return "CPU_ATTN"
    # FlashAttention and FlashInfer have no kernels for Turing.
    return "FLASH_ATTN" if gpu.capability >= (8, 0) else "TRITON_ATTN"


def _check_gpu(profile: EngineProfile, gpu: GPU) -> None:
    if problem := machines.capability_problem(gpu):
        raise DoesNotFit(problem)
    if gpu.capability < profile.capability:
        raise DoesNotFit(
            f"{profile.name} needs compute capability {profile.compute_capability}; "
            f"{gpu.name} has {dotted(gpu.capability)}"
        )


def _parallel_sizes(shape: Shape, count: int) -> list[int]:
    """Return over how many GPUs the model can be split, of those that are here."""
    return [size for size in (1, 2, 4, 8) if size <= count and shape.heads % size == 0]


def _on_gpus(profile: EngineProfile, shape: Shape, gpu: GPU, size: int) -> Plan:
    engine, notes = dict(profile.engine), []
    if engine.get("dtype") == "bfloat16" and gpu.capability < (8, 0):
        engine["dtype"] = "float16"
        notes.append(f"float16 in place of bfloat16, which compute capability {dotted(gpu.capability)} lacks")
    engine["gpu_memory_utilization"] = share = _share(engine, gpu)
    if size > 1:
        engine["tensor_parallel_size"] = size
        notes.append(f"split over {size} GPUs")
    room = int(_usable(gpu) * share)
    weights = _weights(profile.name, engine, shape) // size
    computing = _computing(engine, shape, gpu, size)
    token = _token(engine, shape) // size
    kv_cache = engine.get("kv_cache_memory_bytes", room - weights - computing)
    plan = Plan(profile, gpu, size, room, weights, computing, kv_cache, token)
    wanted = engine.get("max_model_len", shape.positions)
    least = wanted if "max_model_len" in engine else min(LEAST_CONTEXT, wanted)
    if kv_cache <= 0 or plan.kv_tokens < least:
        raise DoesNotFit(_too_small(plan, least))
    engine["max_model_len"] = context = min(wanted, plan.kv_tokens // 256 * 256 or plan.kv_tokens)
    if context < wanted:
        notes.append(f"a context of {context} tokens in place of {wanted}, for want of memory")
    fewest, most = SEQUENCES
    # Twice as many as whole picture chats fit, since most are shorter.
    engine.setdefault("max_num_seqs", max(fewest, min(most, 2 * plan.at_once(CHAT))))
    return replace(plan, profile=replace(profile, engine=engine), notes=tuple(notes))


def _on_cpu(profile: EngineProfile, shape: Shape, machine: Machine) -> Plan:
    engine, notes = dict(profile.engine), []
    weights = _weights(profile.name, engine, shape)
    computing = _activations(engine, shape, engine.get("max_num_batched_tokens", _STEP))
    room = machine.memory - CPU_RESERVED
    left = room - weights - computing
    if space := profile.environment.get("VLLM_CPU_KVCACHE_SPACE"):
        kv_cache = int(space) * GIB
    else:
        kv_cache = engine.setdefault("kv_cache_memory_bytes", max(0, min(CPU_KV_CACHE, left)))
    token = _token(engine, shape)
    plan = Plan(profile, None, 0, room, weights, computing, kv_cache, token)
    wanted = engine.setdefault("max_model_len", shape.positions)
    if space and plan.kv_tokens < wanted:
        raise DoesNotFit(
            f"{profile.name}: environment.VLLM_CPU_KVCACHE_SPACE = {space} (GiB) has room for "
            f"{plan.kv_tokens:,} tokens; a context of {wanted:,} needs {_gib(wanted * token)}"
        )
    if kv_cache > left or plan.kv_tokens < wanted:
        raise DoesNotFit(
            f"{profile.name} needs {_gib(weights)} for its weights, {_gib(computing)} to compute and "
            f"{_gib(max(kv_cache, wanted * token))} for the KV cache; of this machine's "
            f"{_gib(machine.memory)} of memory {_gib(max(0, room))} are left for them"
        )
    engine.setdefault("max_num_seqs", SEQUENCES[0])
    if weights > 4 * GIB:
        notes.append(
            "slow: measured on 2 cores, 19 s to the first token of a picture chat, then 0.4 s a token"
        )
    return replace(plan, profile=replace(profile, engine=engine), notes=tuple(notes))


def _usable(gpu: GPU) -> int:
    return int(gpu.memory * (1 - DRIVER_SHARE))


def _share(engine: Mapping[str, Any], gpu: GPU) -> float:
    """Return the share of the GPU's memory that the engine takes, less where others use some of it."""
    wanted = float(engine.get("gpu_memory_utilization", GPU_SHARE))
    free = (_usable(gpu) - gpu.used) / _usable(gpu)
    return wanted if free >= wanted + 0.02 else max(0.0, floor((free - 0.02) * 100) / 100)


def _weights(name: str, engine: Mapping[str, Any], shape: Shape) -> int:
    quantization = engine.get("quantization")
    try:
        return shape.weights(engine.get("dtype", "auto"), quantization)
    except KeyError:
        raise DoesNotFit(
            f"{name}: what weights take with quantization = {quantization!r} is not known"
        ) from None


def _token(engine: Mapping[str, Any], shape: Shape) -> int:
    return kv_cache_bytes_per_token(shape, engine.get("dtype", "auto"), engine.get("kv_cache_dtype", "auto"))


def step(engine: Mapping[str, Any], gpu: GPU) -> int:
    """Return the most tokens that the engine computes in one step."""
    large = gpu.memory >= _LARGE_GPU and "A100" not in gpu.name
    return int(engine.get("max_num_batched_tokens", _LARGE_STEP if large else _STEP))


def _computing(engine: Mapping[str, Any], shape: Shape, gpu: GPU, size: int) -> int:
    activations = _activations(engine, shape, step(engine, gpu)) // size
    graphs = 0 if engine.get("enforce_eager") else CUDA_GRAPHS
    return activations + OUTSIDE_TORCH + graphs + (NCCL if size > 1 else 0)


def _activations(engine: Mapping[str, Any], shape: Shape, tokens: int) -> int:
    """Return an upper estimate of the tensors that a step of the engine has at once."""
    number = DTYPE_BYTES[engine.get("dtype", "auto")]
    language = tokens * (3 * shape.intermediate_size + 4 * shape.hidden_size) * number
    images = max(1, tokens // shape.tokens_per_image)
    vision = images * (shape.tokens_per_image + 1) * number
    vision *= 2 * shape.vision_intermediate_size + 6 * shape.vision_hidden_size + 2 * shape.hidden_size
    logits = (
        engine.get("max_num_seqs", SEQUENCES[1]) * shape.vocabulary * (number + 3 * 4)
    )  # three in float32
    # bitsandbytes unpacks a layer's weights each time.
    four_bits = engine.get("quantization") == "bitsandbytes"
    unpacked = 2 * shape.hidden_size * shape.intermediate_size * number if four_bits else 0
    return int(max(language, vision) + logits + unpacked)


def _too_small(plan: Plan, least: int) -> str:
    gpu = plan.gpu
    assert gpu is not None
    needed = plan.weights + plan.computing + least * plan.token
    used = f" ({_gib(gpu.used)} are in use)" if gpu.used > GIB // 4 else ""
    return (
        f"{gpu.name} has {_gib(gpu.memory)}{used}, of which the engine may take {_gib(plan.room)}; "
        f"{plan.profile.name} needs {_gib(needed)}: {_gib(plan.weights)} for its weights, "
        f"{_gib(plan.computing)} to compute and {_gib(least * plan.token)} for a context of {least} tokens"
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
