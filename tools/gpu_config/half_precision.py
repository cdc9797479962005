"""bitsandbytes' 4-bit layers, run on this CPU: ours multiply in float16, the plug-in's in bfloat16.

`python -m tools.gpu_config.half_precision`, with vllm-bnb-plugin and bitsandbytes on PYTHONPATH. Prints how
far each is from the exact product, and fails where ours is not several times nearer.
"""

import sys
from types import SimpleNamespace

import torch


def main() -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    linear = sys.modules["vllm_bnb_plugin.quantization.linear"]
    theirs = linear.BitsAndBytesLinearMethod._apply_4bit_weight
    import gateway.engine.vllm_worker  # noqa: F401  # as vLLM's worker imports it

    ours = linear.BitsAndBytesLinearMethod._apply_4bit_weight
    torch.manual_seed(0)
    halves = torch.randn(2, 128, 64, dtype=torch.float16)  # two weights in one, as vLLM packs them
    parts = [quantize_4bit(half, compress_statistics=False, quant_type="nf4") for half in halves]
    weight = torch.nn.Parameter(torch.cat([packed for packed, _ in parts]), requires_grad=False)
    weight.bnb_quant_state = {place: state for place, (_, state) in enumerate(parts)}
    length = len(parts[0][0])
    weight.bnb_shard_offsets = torch.tensor([0, length, 2 * length])
    x = torch.randn(3, 5, 64, dtype=torch.float16)
    bias = torch.randn(256, dtype=torch.float16)
    exact = x.float() @ torch.cat([dequantize_4bit(*part) for part in parts]).float().T + bias.float()
    off = {}
    for name, apply in (("ours", ours), ("the plug-in's", theirs)):
        out = apply(None, SimpleNamespace(weight=weight), x, bias)
        assert (out.dtype, out.shape) == (torch.float16, (3, 5, 256))
        off[name] = float((out.float() - exact).abs().max())
    print("4-bit layers, largest error:", ", ".join(f"{name} {error:.4f}" for name, error in off.items()))
    assert off["ours"] * 4 < off["the plug-in's"]


if __name__ == "__main__":
    main()
