"""A model's folder with everything that the hub's repository holds, but random weights."""

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod, sqrt
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from engine_config import profile
from tests.prompt.llama import ADDED, SPECIAL, LlamaTokenizerJS
from tools.full_shape.shape import PATCH, Shape, Sizes

# What transformers draws a new LLaVA's weights with (`initializer_range` of its config).
STD = 0.02


def write(shape: Shape, folder: Path, llama: LlamaTokenizerJS) -> None:
    """Write config, tokenizer, processor and weights of `shape` into `folder`; the weights are bfloat16."""
    _dump(folder / "config.json", shape.config())
    _write_tokenizer(folder, llama)
    _write_weights(folder, shape.shards())


def _write_tokenizer(folder: Path, llama: LlamaTokenizerJS) -> None:
    # What does not depend on the sizes is the same in the demo model.
    demo = Path(profile.load("demo").model_path)
    for name in ("special_tokens_map.json", "preprocessor_config.json", "chat_template.json"):
        shutil.copy(demo / name, folder)
    llama.tokenizer().save(str(folder / "tokenizer.json"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ids = dict(enumerate(SPECIAL)) | dict(enumerate(ADDED, 32000))
    settings = json.loads((demo / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {str(i): {"content": token, **flags} for i, token in ids.items()}
    _dump(folder / "tokenizer_config.json", settings)
    _dump(folder / "added_tokens.json", {token: i for i, token in ids.items() if token in ADDED})
    processor = json.loads((demo / "processor_config.json").read_text())
    _dump(folder / "processor_config.json", processor | {"patch_size": PATCH})
    _dump(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 32001})


def _write_weights(folder: Path, shards: Sequence[Sizes]) -> None:
    """Write a file for each of `shards`, as many at once as there are cores, and their index."""
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]

    def write_shard(name: str, sizes: Sizes) -> None:
        tensors = {tensor: _random(tensor, size) for tensor, size in sizes.items()}
        save_file(tensors, folder / name, metadata={"format": "pt"})

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        list(threads.map(write_shard, names, shards))
    total = 2 * sum(prod(size) for shard in shards for size in shard.values())
    places = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    _dump(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})


def _random(name: str, size: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor around 0, or around 1 where it scales a norm; the same for the same name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    middle = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    # Uniform: normal numbers take twice the time.
    reach = STD * sqrt(3)
    tensor = torch.empty(size, dtype=torch.bfloat16)
    return tensor.uniform_(middle - reach, middle + reach, generator=generator)


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
