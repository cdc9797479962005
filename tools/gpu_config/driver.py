"""A stand-in for the NVIDIA driver: NVML answers as on one of the known GPUs, and kernels are empty modules.

vLLM's compiled kernels are linked to the driver's library: without a driver they cannot be loaded. Which of
them is chosen is decided in Python, from what NVML says; that is what the check is about.
"""

import importlib.abc
import importlib.machinery
import subprocess
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

from engine_config.machine import GPU

KERNELS = (
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
    "vllm._qutlass_C",
    "vllm.vllm_flash_attn._vllm_fa2_C",
    "vllm.vllm_flash_attn._vllm_fa3_C",
    "vllm.cumem_allocator",
)
_LIBRARIES: list[Any] = []  # Their operators are gone when they are.


class _Kernels(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for each of KERNELS."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        return importlib.machinery.ModuleSpec(name, self) if name in KERNELS else None

    def exec_module(self, module: ModuleType) -> None:
        del module


def install(gpu: GPU, count: int = 1) -> None:
    """Let vLLM, which must not be imported yet, see `count` such GPUs. Calling a compiler is an error."""
    assert "vllm" not in sys.modules
    sys.meta_path.insert(0, _Kernels())
    _forbid_compilers()
    import torch.cuda
    from vllm.third_party import pynvml

    answers = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": count,
        "nvmlDeviceGetHandleByIndex": "a handle",
        "nvmlDeviceGetCudaComputeCapability": gpu.capability,
        "nvmlDeviceGetName": gpu.name,
        "nvmlDeviceGetUUID": "GPU-0",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=gpu.memory, used=0, free=gpu.memory),
        "nvmlDeviceGetP2PStatus": pynvml.NVML_P2P_STATUS_OK,
    }
    for name, answer in answers.items():
        setattr(pynvml, name, _answering(answer))
    _answer_for_kernels(gpu)
    torch.cuda.device_count = _answering(count)
    torch.cuda.is_available = _answering(True)
    torch.cuda.get_device_capability = _answering(gpu.capability)
    properties = SimpleNamespace(
        name=gpu.name,
        total_memory=gpu.memory,
        multi_processor_count=40,
        major=gpu.capability[0],
        minor=gpu.capability[1],
        is_integrated=False,
    )
    torch.cuda.get_device_properties = _answering(properties)
    torch.cuda._device_count_nvml = _answering(count)
    torch.cuda._is_compiled = _answering(True)


def _answer_for_kernels(gpu: GPU) -> None:
    """Answer what vLLM asks its kernels about the GPU: csrc/quantization/w8a8/cutlass/scaled_mm_entry.cu."""
    from torch.library import Library

    number = gpu.capability[0] * 10 + gpu.capability[1]
    library = Library("_C", "FRAGMENT")
    since = {
        "cutlass_scaled_mm_supports_fp8": 89,
        "cutlass_scaled_mm_supports_block_fp8": 90,
        "cutlass_scaled_mm_supports_fp4": 100,
        "cutlass_group_gemm_supported": 90,
    }
    for name, capability in since.items():
        library.define(f"{name}(int capability) -> bool")
        library.impl(name, _answering(number >= capability), "CompositeExplicitAutograd")
    _LIBRARIES.append(library)


def _answering(answer: Any) -> Any:
    return lambda *_, **__: answer


def _forbid_compilers() -> None:
    popen = subprocess.Popen.__init__

    def checked(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        words = args if isinstance(args, str) else " ".join(map(str, args))
        assert not any(tool in words for tool in ("nvcc", "ninja")), f"a compiler was asked for: {words}"
        popen(self, args, *rest, **options)

    subprocess.Popen.__init__ = checked  # type: ignore[method-assign]
