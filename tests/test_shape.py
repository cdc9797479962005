"""What a model's weights and its KV cache take is known from its sizes alone."""

import json
import struct
from math import prod
from pathlib import Path

import pytest

from engine_config import shape
from engine_config.shape import KNOWN, Shape
from tools.full_shape.shape import Shape as FullShape

SEVEN, THIRTEEN = KNOWN["llava-hf/llava-1.5-7b-hf"], KNOWN["llava-hf/llava-1.5-13b-hf"]
DEMO = Path(shape.__file__).parent / "demo_model"


def test_parameters_are_counted() -> None:
    assert SEVEN.parameters == FullShape().parameters == 7_063_427_072


def test_what_the_hubs_config_leaves_out_is_transformers_default() -> None:
    config = FullShape().config()
    assert Shape.from_config(config) == SEVEN
    # As the hub has it: a Llama of transformers' default sizes, which the file leaves out.
    config["text_config"] = {"max_position_embeddings": 4096, "vocab_size": 32064, "model_type": "llama"}
    assert Shape.from_config(config) == SEVEN


def test_demo_models_parameters_are_those_of_its_file() -> None:
    with (DEMO / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        tensors = json.loads(file.read(length))
    stored = sum(prod(tensor["shape"]) for name, tensor in tensors.items() if name != "__metadata__")
    assert Shape.from_folder(DEMO).parameters == stored


def test_tokens_of_an_image() -> None:
    assert SEVEN.tokens_per_image == 576
    assert Shape.from_folder(DEMO).tokens_per_image == 64


def test_weights_are_those_that_vllm_loads() -> None:
    # All but the vision tower's last layer and the norm after it, of which LLaVA takes nothing.
    tensors = {name: sizes for shard in FullShape(clip_layers=23).shards() for name, sizes in shard.items()}
    loaded = {name: prod(sizes) for name, sizes in tensors.items() if "post_layernorm." not in name}
    assert SEVEN.weights("float16") == 2 * sum(loaded.values())

    kept = ("embed_tokens", "lm_head", "position_embedding")
    linear = sum(
        count
        for name, count in loaded.items()
        if len(tensors[name]) == 2 and not any(k in name for k in kept)
    )
    others = sum(loaded.values()) - linear
    assert SEVEN.weights("float16", "fp8_per_channel") == linear + 2 * others
    assert SEVEN.weights("float16", "bitsandbytes") == int(linear * (0.5 + 4 / 64)) + 2 * others


def test_quantization_of_unknown_size_is_not_guessed() -> None:
    with pytest.raises(KeyError):
        SEVEN.weights("float16", "awq")


def test_kv_cache_of_a_token() -> None:
    assert shape.kv_cache_bytes_per_token(SEVEN, "float16") == 512 * 1024
    assert shape.kv_cache_bytes_per_token(SEVEN, "float32") == 1024 * 1024
    assert shape.kv_cache_bytes_per_token(SEVEN, "float16", "fp8") == 256 * 1024
    assert shape.kv_cache_bytes_per_token(THIRTEEN, "bfloat16") == 800 * 1024
