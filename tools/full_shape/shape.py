"""The sizes of LLaVA-1.5-7B: its config and the names and sizes of its tensors, as the hub has them.

The sizes are those of `config.json` of llava-hf/llava-1.5-7b-hf: Vicuna 7B and CLIP ViT-L/14-336.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import engine_config.shape

WIDTH, INNER, HEADS, VOCABULARY = 4096, 11008, 32, 32064  # of the language model
CLIP_WIDTH, CLIP_INNER, CLIP_HEADS, SIDE, PATCH = 1024, 4096, 16, 336, 14
CONTEXT, TOKENS_PER_IMAGE = 4096, 576
IMAGE = 32000  # the token that stands for an image

Sizes = dict[str, tuple[int, ...]]  # a tensor's name, as on the hub, and its sizes


@dataclass(frozen=True, slots=True)
class Shape:
    """The model with that many layers in each tower; the defaults are the real model's."""

    layers: int = 32
    clip_layers: int = 24

    @property
    def parameters(self) -> int:
        return sum(prod(sizes) for shard in self.shards() for sizes in shard.values())

    @property
    def known(self) -> engine_config.shape.Shape:
        """Return the same as `engine_config` reads it from the config."""
        return engine_config.shape.Shape.from_config(self.config())

    def shards(self) -> list[Sizes]:
        """Return the tensors of each weight file: the embeddings, the vision tower, each Llama layer."""
        return [_embeddings(), _vision(self.clip_layers), *(_llama_layer(i) for i in range(self.layers))]

    def config(self) -> dict[str, Any]:
        """Return what the hub's `config.json` says."""
        return {
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "ignore_index": -100,
            "image_seq_length": TOKENS_PER_IMAGE,
            "image_token_index": 32000,
            "pad_token_id": 32001,
            "projector_hidden_act": "gelu",
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "vocab_size": VOCABULARY,
            "text_config": {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "bos_token_id": 1,
                "eos_token_id": 2,
                "hidden_act": "silu",
                "hidden_size": WIDTH,
                "intermediate_size": INNER,
                "max_position_embeddings": CONTEXT,
                "num_attention_heads": HEADS,
                "num_hidden_layers": self.layers,
                "num_key_value_heads": HEADS,
                "rms_norm_eps": 1e-05,
                "rope_theta": 10000.0,
                "tie_word_embeddings": False,
                "torch_dtype": "bfloat16",
                "vocab_size": VOCABULARY,
            },
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": CLIP_WIDTH,
                "image_size": SIDE,
                "intermediate_size": CLIP_INNER,
                "num_attention_heads": CLIP_HEADS,
                "num_hidden_layers": self.clip_layers,
                "patch_size": PATCH,
                "projection_dim": 768,
                "vocab_size": 32000,
            },
        }


def _embeddings() -> Sizes:
    return {
        "language_model.model.embed_tokens.weight": (VOCABULARY, WIDTH),
        "language_model.lm_head.weight": (VOCABULARY, WIDTH),
        "language_model.model.norm.weight": (WIDTH,),
    }


def _llama_layer(number: int) -> Sizes:
    at = f"language_model.model.layers.{number}"
    return {
        **{f"{at}.self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"},
        f"{at}.mlp.gate_proj.weight": (INNER, WIDTH),
        f"{at}.mlp.up_proj.weight": (INNER, WIDTH),
        f"{at}.mlp.down_proj.weight": (WIDTH, INNER),
        f"{at}.input_layernorm.weight": (WIDTH,),
        f"{at}.post_attention_layernorm.weight": (WIDTH,),
    }


def _vision(layers: int) -> Sizes:
    at = "vision_tower.vision_model"
    sizes: Sizes = {
        f"{at}.embeddings.class_embedding": (CLIP_WIDTH,),
        f"{at}.embeddings.patch_embedding.weight": (CLIP_WIDTH, 3, PATCH, PATCH),
        f"{at}.embeddings.position_embedding.weight": (TOKENS_PER_IMAGE + 1, CLIP_WIDTH),
        **_with_bias(f"{at}.pre_layrnorm", CLIP_WIDTH),  # sic
        **_with_bias(f"{at}.post_layernorm", CLIP_WIDTH),
        **_with_bias("multi_modal_projector.linear_1", WIDTH, CLIP_WIDTH),
        **_with_bias("multi_modal_projector.linear_2", WIDTH, WIDTH),
    }
    for number in range(layers):
        layer = f"{at}.encoder.layers.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            sizes |= _with_bias(f"{layer}.self_attn.{name}", CLIP_WIDTH, CLIP_WIDTH)
        sizes |= _with_bias(f"{layer}.mlp.fc1", CLIP_INNER, CLIP_WIDTH)
        sizes |= _with_bias(f"{layer}.mlp.fc2", CLIP_WIDTH, CLIP_INNER)
        for name in ("layer_norm1", "layer_norm2"):
            sizes |= _with_bias(f"{layer}.{name}", CLIP_WIDTH)
    return sizes


def _with_bias(name: str, *sizes: int) -> Sizes:
    return {f"{name}.weight": sizes, f"{name}.bias": sizes[:1]}
