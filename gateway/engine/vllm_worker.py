"""Extends vLLM's worker, the process that has the model: vLLM mixes the class into its own.

Written against vLLM 0.32 and vllm-bnb-plugin 0.0.3.
"""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gateway.engine import loading

LOADERS = (  # modules that iterate over safetensors files
    "vllm.model_executor.model_loader.default_loader",
    "vllm_bnb_plugin.bitsandbytes_loader",
)


class WorkerExtension:
    """Has the methods that the gateway calls by `AsyncLLM.collective_rpc`."""

    vllm_config: Any  # vLLM's worker has it

    def gateway_attention_backends(self) -> list[str]:
        """Return the names of the attention backends of the language model's layers."""
        layers = self.vllm_config.compilation_config.static_forward_context.values()
        return sorted({layer.attn_backend.get_name() for layer in layers if hasattr(layer, "attn_backend")})


def compute_in_half_precision() -> None:
    """Make bitsandbytes' 4-bit layers multiply in float16 if the model computes in float16.

    The plug-in converts every input to bfloat16, ignoring its configuration. Turing GPUs (T4) lack bfloat16,
    and PyTorch emulates it. LLaVA's weights are float16.
    """
    linear = sys.modules.get("vllm_bnb_plugin.quantization.linear")  # loaded if the plug-in is installed
    if linear is None:
        return
    apply = linear.apply_bnb_4bit

    def apply_in_its_dtype(
        _: Any, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.size(-1))
        if rows.dtype == torch.float32:
            rows = rows.bfloat16()
        weight = layer.weight
        width = sum(state.shape[0] for state in weight.bnb_quant_state.values())
        out = torch.empty(rows.shape[0], width, dtype=rows.dtype, device=rows.device)
        apply(rows, weight, weight.bnb_shard_offsets, out)
        out = out.to(x.dtype).view(*x.shape[:-1], width)
        return out if bias is None else out + bias

    linear.BitsAndBytesLinearMethod._apply_4bit_weight = apply_in_its_dtype  # noqa: SLF001  # see above


def log_no_conversions() -> None:
    """Drop vLLM's warnings about weights converted to the profile's dtype, which is intended."""
    logger = logging.getLogger("vllm.model_executor.models.utils")
    logger.addFilter(lambda record: not str(record.msg).startswith("Attempted to load weight %s with dtype"))


def count_loaded_bytes() -> None:
    """Make this worker count the bytes of the weights it loads, for the start's progress."""
    path = os.environ.get(loading.VARIABLE)
    if path is None:
        return
    for module in filter(None, map(sys.modules.get, LOADERS)):
        module.safetensors_weights_iterator = _by_first_worker(  # type: ignore[attr-defined]  # one of LOADERS
            module.safetensors_weights_iterator, Path(path)
        )


def _by_first_worker(weights: loading.Weights, path: Path) -> loading.Weights:
    """Count in the first worker only: every worker reads all files and keeps its part."""

    def iterate(*arguments: Any, **named: Any) -> Iterator[tuple[str, Any]]:
        first = path.exists() and torch.distributed.get_rank() == 0  # the file is removed after the start
        chosen = loading.counted(weights, path) if first else weights
        return chosen(*arguments, **named)

    return iterate


# vLLM imports this file in the worker after its plug-ins and before the model.
compute_in_half_precision()
log_no_conversions()
count_loaded_bytes()
