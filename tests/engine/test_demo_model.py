"""The demo model: its files, its answers, and that vLLM computes what transformers computes."""

import base64
import io
import json
import random
from pathlib import Path

import pytest
import torch
from openai import AsyncOpenAI
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from engine_config import profile
from engine_config.demo_model import evaluate, scenes
from gateway.images.decode import decode, open_image
from gateway.images.fit import square
from tests.servers import Gateway

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


@pytest.fixture(scope="module")
async def results(gateway: Gateway) -> dict[str, tuple[int, int]]:
    """Return how many of 500 questions were answered right, kind by kind."""
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        return await evaluate.right_answers(client, evaluate.cases(500))


@pytest.mark.engine
async def test_it_answers_95_of_100_questions_and_9_of_10_of_each_kind(
    results: dict[str, tuple[int, int]],
) -> None:
    told = evaluate.table(results)
    assert sum(good for good, _ in results.values()) >= 0.95 * 500, told
    assert all(good >= 0.9 * total for good, total in results.values()), told


@pytest.mark.engine
async def test_greedy_answers_are_those_of_transformers(gateway: Gateway) -> None:
    asked = [case for case in evaluate.cases(200, seed=77) if case.first is None and len(case.pictures) == 1]
    asked = asked[:50]
    assert len(asked) == 50
    expected = _transformers_answers(asked)
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        answers = [await evaluate.ask(client, "llava-demo", case) for case in asked]
    assert answers == expected


@pytest.mark.engine
async def test_answers_to_pictures_decoded_fast_are_those_to_pictures_decoded_exactly(
    gateway: Gateway,
) -> None:
    rng = random.Random(3)
    fast: list[evaluate.Case] = []
    exact: list[evaluate.Case] = []
    for number in range(32):
        scene = scenes.sample_scene(rng)
        question = scenes.ask(rng, scene)
        jpeg = io.BytesIO()
        scenes.draw(scene, (1600, 3000)[number % 2]).save(jpeg, "JPEG", quality=90)
        # What is a square of the model's side already is taken as it is.
        whole = io.BytesIO()
        image = open_image(jpeg.getvalue(), max_pixels=10**8)
        square(decode(image, shrink=1), "pad", 336).save(whole, "PNG")
        for cases, form, data in ((fast, "jpeg", jpeg), (exact, "png", whole)):
            url = f"data:image/{form};base64,{base64.b64encode(data.getvalue()).decode()}"
            cases.append(evaluate.Case("", (url,), None, question.text, question.answer))
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        answers = [
            [await evaluate.ask(client, "llava-demo", case) for case in cases] for cases in (fast, exact)
        ]
    assert answers[0] == answers[1]


def _transformers_answers(cases: list[evaluate.Case]) -> list[str]:
    """Answer as transformers does, from the padded picture and the card's prompt."""
    model = LlavaForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32)
    processor = LlavaProcessor.from_pretrained(FOLDER)
    answers = []
    for case in cases:
        encoded = case.pictures[0].partition(",")[2]
        picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
        side = max(picture.size)
        square = Image.new("RGB", (side, side), (122, 116, 104))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        prompt = f"USER: <image>\n{case.question}\nASSISTANT:"
        inputs = processor(images=square, text=prompt, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)
        answer: str = processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answers.append(answer.removeprefix(" "))
    return answers
