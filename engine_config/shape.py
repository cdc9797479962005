"""The shape of a LLaVA model, and what its weights and its KV cache take."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

# Bytes a value. vLLM's names, of `dtype` and of `kv_cache_dtype`.
DTYPE_BYTES = {"float32": 4, "float16": 2, "half": 2, "bfloat16": 2, "auto": 2, "float": 4}
KV_DTYPE_BYTES = {"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "float16": 2, "bfloat16": 2}

# Bytes a weight of the linear layers takes; embeddings, norms and biases keep the model's dtype.
# bitsandbytes: 4 bits, and for each block of 64 a scale, which its plug-in keeps in float32
# (https://arxiv.org/abs/2305.14314).
QUANTIZED_BYTES = {
    "bitsandbytes": 0.5 + 4 / 64,
    "fp8": 1.0,
    "fp8_per_tensor": 1.0,
    "fp8_per_channel": 1.0,
    "fp8_per_block": 1.0 + 4 / 128**2,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A LLaVA's sizes; `vision_layers` are those that its checkpoint has, vLLM runs one less."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    positions: int
    tied_embeddings: bool
    vision_hidden_size: int
    vision_intermediate_size: int
    vision_layers: int
    vision_layers_run: int
    image_size: int
    patch_size: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the shape that a `config.json` describes; what it leaves out is transformers' default."""
        text = {**_LLAMA, **config.get("text_config", {})}
        vision = {**_CLIP, **config.get("vision_config", {})}
        heads = text["num_attention_heads"]
        layers = vision["num_hidden_layers"]
        feature = config.get("vision_feature_layer", -2)
        return cls(
            hidden_size=text["hidden_size"],
            intermediate_size=text["intermediate_size"],
            layers=text["num_hidden_layers"],
            heads=heads,
            kv_heads=text.get("num_key_value_heads") or heads,
            head_size=text.get("head_dim") or text["hidden_size"] // heads,
            vocabulary=text["vocab_size"],
            positions=text["max_position_embeddings"],
            tied_embeddings=bool(text.get("tie_word_embeddings", False)),
            vision_hidden_size=vision["hidden_size"],
            vision_intermediate_size=vision["intermediate_size"],
            vision_layers=layers,
            vision_layers_run=layers + feature + 1 if feature < 0 else feature,
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
        )

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        return cls.from_config(json.loads((folder / "config.json").read_text()))

    @property
    def tokens_per_image(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def parameters(self) -> int:
        """Return how many parameters the checkpoint has."""
        return self._linear(self.vision_layers) + self._other(self.vision_layers)

    def weights(self, dtype: str, quantization: str | None = None) -> int:
        """Return the bytes that the weights take in vLLM. Raises KeyError for an unknown quantization."""
        half = DTYPE_BYTES[dtype]
        linear = QUANTIZED_BYTES[quantization] if quantization else half
        return int(self._linear(self.vision_layers_run) * linear + self._other(self.vision_layers_run) * half)

    def _linear(self, vision_layers: int) -> int:
        """Return the weights of linear layers, which quantization makes smaller."""
        attention = 2 * self.hidden_size * self.head_size * (self.heads + self.kv_heads)
        mlp = 3 * self.hidden_size * self.intermediate_size
        vision = 4 * self.vision_hidden_size**2 + 2 * self.vision_hidden_size * self.vision_intermediate_size
        projector = self.vision_hidden_size * self.hidden_size + self.hidden_size**2
        return self.layers * (attention + mlp) + vision_layers * vision + projector

    def _other(self, vision_layers: int) -> int:
        """Return the embeddings, norms and biases."""
        embeddings = self.vocabulary * self.hidden_size * (1 if self.tied_embeddings else 2)
        norms = (2 * self.layers + 1) * self.hidden_size
        width = self.vision_hidden_size
        vision_layer = 4 * width + self.vision_intermediate_size + width + 4 * width  # biases, two norms
        patches = 3 * self.patch_size**2 * width + (self.tokens_per_image + 1) * width + width
        outer_norms = 4 * width if vision_layers == self.vision_layers else 2 * width
        return (
            embeddings + norms + vision_layers * vision_layer + patches + outer_norms + 2 * self.hidden_size
        )


def kv_cache_bytes_per_token(shape: Shape, dtype: str, kv_cache_dtype: str = "auto") -> int:
    """Return the bytes that a token's keys and values take in all layers, over all GPUs together.

    vLLM's KV cache has as many tokens as its memory holds whole blocks of them.
    """
    size = KV_DTYPE_BYTES.get(kv_cache_dtype) or DTYPE_BYTES[dtype]
    return 2 * shape.layers * shape.kv_heads * shape.head_size * size


_LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
_CLIP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "image_size": 224,
    "patch_size": 32,
}
_TOWER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
}
_VICUNA = {"vocab_size": 32064, "max_position_embeddings": 4096}
_VICUNA_13B = {
    **_VICUNA,
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
}
# What is known of the hub's models before anything is fetched.
KNOWN: Mapping[str, Shape] = {
    "llava-hf/llava-1.5-7b-hf": Shape.from_config({"text_config": _VICUNA, "vision_config": _TOWER}),
    "llava-hf/llava-1.5-13b-hf": Shape.from_config({"text_config": _VICUNA_13B, "vision_config": _TOWER}),
}
