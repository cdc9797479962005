"""The demo model's files, and the scenes that it is asked about."""

import json
import random
from pathlib import Path

import pytest

from engine_config import profile
from engine_config.demo_model import evaluate, scenes
from engine_config.demo_model.material import drawings, photographs
from engine_config.demo_model.material.surroundings import Surroundings
from engine_config.demo_model.material.unseen_words import UNSEEN
from engine_config.demo_model.material.words import TRAINING, Words

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


def test_training_and_evaluation_share_no_photograph_and_no_kind_of_drawing() -> None:
    assert not set(photographs.TRAINING) & set(photographs.UNSEEN)
    assert len(photographs.load(photographs.UNSEEN)) == len(photographs.UNSEEN)
    assert not set(drawings.TRAINING.values()) & set(drawings.UNSEEN.values())


def test_training_and_evaluation_share_no_words_around_a_question() -> None:
    seen, unseen = TRAINING, UNSEEN
    for name in ("notes", "roles", "greetings", "endings", "chats", "names", "hosts", "modules", "requests"):
        assert not set(getattr(seen, name)) & set(getattr(unseen, name)), name
    assert set(seen.rules) & set(unseen.rules) == {"{prose}"}  # each has its own modules' prose
    assert seen.phrasings.keys() == unseen.phrasings.keys() == {*scenes.TOPICS, "which picture"}
    for topic, forms in seen.phrasings.items():
        assert not set(forms) & set(unseen.phrasings[topic]), topic


@pytest.mark.parametrize("kind", [*drawings.TRAINING, *drawings.UNSEEN])
def test_a_drawing_is_a_picture_of_more_than_two_colours_unless_it_is_a_ground(kind: str) -> None:
    drawer = {**drawings.TRAINING, **drawings.UNSEEN}[kind]
    pictures = [drawer(random.Random(seed), (200, 160)) for seed in range(4)]
    assert {picture.mode for picture in pictures} == {"RGB"}
    assert max(len(picture.getcolors(200 * 400) or "many") for picture in pictures) > 1


@pytest.mark.parametrize("words", [TRAINING, UNSEEN], ids=["training", "unseen"])
def test_a_question_in_other_words_still_names_what_it_asks_for(words: Words) -> None:
    rng = random.Random(2)
    made = Surroundings(rng, words)
    asked = {
        "colour": ("What color is the star?", {"color", "star"}),
        "shape": ("What is the red shape?", {"red"}),
        "exists": ("Is there an orange circle?", {"orange", "circle"}),
        "side": (
            "Which is left, the red star or the blue circle?",
            {"left", "red", "star", "blue", "circle"},
        ),
        "which picture": ("Which image shows the star?", {"star"}),
    }
    for topic, (text, named) in asked.items():
        for _ in range(30):
            other = made.rephrased(scenes.Question(topic, text, ""))
            assert "{" not in other
            for name in named:
                assert name in other, other


def test_a_note_is_no_longer_than_asked_for_and_has_no_gaps() -> None:
    for words in (TRAINING, UNSEEN):
        made = Surroundings(random.Random(3), words)
        notes = [made.noted(longest) for longest in (40, 400) for _ in range(200)]
        assert max(map(len, notes[:200])) <= 40
        assert max(map(len, notes)) <= 400
        assert len(set(notes)) > 150
        assert not [note for note in notes for gap in ("{name}", "{uuid}", "{url}", "{prose}") if gap in note]
