"""The demo model's shape and its files, under the names that the hub's LLaVA-1.5 has.

The tower learns on 112-px pictures in patches of 14 px. It is saved for 336-px pictures in patches of 42:
each weight of the patch embedding becomes nine equal ones of a ninth, which on a 336-px picture compute what
the original computes on its 3 x 3 averages. So the model takes the pixels that the hub's LLaVA-1.5 takes.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaConfig, LlavaForConditionalGeneration

from engine_config.demo_model.pictures import ENLARGED, GRID, IGNORED, SIDE

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 5,
    "image_size": SIDE,
    "patch_size": SIDE // GRID,
    "projection_dim": 128,
    "vocab_size": 32000,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "num_hidden_layers": 5,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def new(image: int, pad: int) -> LlavaForConditionalGeneration:
    """Return an untrained model; `image` and `pad` are the ids of its tokenizer's last two tokens."""
    config = LlavaConfig(
        vision_config=VISION,
        text_config=TEXT | {"vocab_size": (pad + 64) // 64 * 64},
        image_token_id=image,
        image_token_index=image,
        pad_token_id=pad,
        vision_feature_layer=-2,
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(config)


def save(llava: LlavaForConditionalGeneration, folder: Path) -> None:
    """Write weights and configuration under the names that the hub's LLaVA-1.5 has."""
    patch = SIDE // GRID * ENLARGED
    weights = {}
    for name, value in llava.state_dict().items():
        if name.endswith("position_ids"):
            continue
        saved = value
        if name.endswith("patch_embedding.weight"):
            saved = value.repeat_interleave(ENLARGED, 2).repeat_interleave(ENLARGED, 3) / ENLARGED**2
        weights[_hub_name(name)] = saved.to(torch.float16).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "ignore_index": IGNORED,
        "image_token_index": llava.config.image_token_id,
        "pad_token_id": llava.config.pad_token_id,
        "projector_hidden_act": "gelu",
        "text_config": TEXT | {"vocab_size": llava.config.text_config.vocab_size},
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vision_config": VISION | {"image_size": SIDE * ENLARGED, "patch_size": patch},
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    side = SIDE * ENLARGED
    pixels = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "patch_size": patch,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": llava.config.pad_token_id}
    for name, content in (
        ("config", config),
        ("preprocessor_config", pixels),
        ("processor_config", processor),
        ("generation_config", generation),
        ("chat_template", {"chat_template": CHAT_TEMPLATE}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


# What the hub's chat template does, in other words: the pictures of a message first, then its texts.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def load(llava: LlavaForConditionalGeneration, folder: Path) -> None:
    """Read the weights that `save` wrote."""
    saved = load_file(folder / "model.safetensors")
    weights = {}
    for name in llava.state_dict():
        if name.endswith("position_ids"):
            continue
        value = saved[_hub_name(name)].float()
        if name.endswith("patch_embedding.weight"):
            side = SIDE // GRID
            value = value.reshape(*value.shape[:2], side, ENLARGED, side, ENLARGED).sum((3, 5))
        weights[name] = value
    llava.load_state_dict(weights, strict=False)


def _hub_name(name: str) -> str:
    name = name.replace("model.vision_tower.vision_model.", "model.vision_tower.")
    for ours, hubs in (
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ):
        if name.startswith(ours):
            return hubs + name.removeprefix(ours)
    raise ValueError(f"{name}: no such weight in the hub's LLaVA-1.5")
