"""The demo model's files, and the scenes that it is asked about."""

import json
import random
from pathlib import Path

from engine_config import profile
from engine_config.demo_model import evaluate, scenes

FOLDER = Path(profile.load("demo").model_path)
HUB_FILES = {
    "added_tokens.json",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def test_it_has_the_hubs_file_names_and_is_small() -> None:
    carried = {path.name: path.stat().st_size for path in FOLDER.iterdir() if path.is_file()}
    assert carried.keys() >= HUB_FILES
    assert sum(carried.values()) <= 12 * 10**6


def test_it_takes_the_hubs_pixels_and_a_context_of_2048_tokens_or_more() -> None:
    pixels = json.loads((FOLDER / "preprocessor_config.json").read_text())
    assert pixels["crop_size"] == {"height": 336, "width": 336}
    assert pixels["image_mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert profile.load("demo").max_model_len >= 2048


def test_scenes_are_the_same_for_the_same_seed() -> None:
    assert evaluate.cases(8, seed=5) == evaluate.cases(8, seed=5)


def test_scenes_have_one_to_three_shapes_of_four_kinds_in_eight_colours() -> None:
    rng = random.Random(1)
    made = [scenes.sample_scene(rng) for _ in range(300)]
    assert {len(scene.shapes) for scene in made} == {1, 2, 3}
    assert {shape.kind for scene in made for shape in scene.shapes} == set(scenes.KINDS)
    assert {shape.colour for scene in made for shape in scene.shapes} == set(scenes.COLOURS)
    assert len(scenes.KINDS) == 4
    assert len(scenes.COLOURS) == 8
