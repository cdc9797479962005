"""The demo model answers well, and vLLM computes what transformers computes."""

import base64
import io
import random
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from PIL import Image

from engine_config import profile
from engine_config.demo_model import evaluate, scenes
from gateway.images.decode import decode
from gateway.images.header import open_image
from gateway.images.square import square
from tests.servers import Gateway

FOLDER = Path(profile.load("demo").model_path)
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
async def answers(gateway: Gateway) -> list[str]:
    """Return the answers to 500 questions about drawn scenes."""
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        return await evaluate.answers(client, evaluate.cases(500))


async def test_it_answers_95_of_100_questions_and_9_of_10_of_each_kind(answers: list[str]) -> None:
    results = evaluate.right(evaluate.cases(500), answers)
    told = evaluate.table(results)
    assert sum(good for good, _ in results.values()) >= 0.95 * 500, told
    assert all(good >= 0.9 * total for good, total in results.values()), told


async def test_it_refuses_fewer_than_1_in_200_drawn_scenes(answers: list[str]) -> None:
    assert answers.count(scenes.REFUSAL) < 0.005 * 500


async def test_it_looks_past_words_that_have_nothing_to_do_with_the_question(gateway: Gateway) -> None:
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        results = await evaluate.right_answers(client, evaluate.cases_among_words(180))
    assert results.keys() == set(evaluate.WORDS)
    assert sum(good for good, _ in results.values()) >= 0.92 * 180, evaluate.table(results)


async def test_it_says_that_a_photograph_or_a_chart_is_no_drawn_scene(gateway: Gateway) -> None:
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        results = await evaluate.right_answers(client, evaluate.cases_of_others(160))
    assert results.keys() == set(evaluate.OTHERS)
    assert sum(good for good, _ in results.values()) >= 0.95 * 160, evaluate.table(results)


@pytest.mark.parametrize("way", evaluate.FOUR_WAYS[1:], ids=str)
async def test_it_answers_95_of_100_whichever_way_it_is_asked(gateway: Gateway, way: evaluate.Way) -> None:
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        results = await evaluate.right_answers(client, evaluate.cases(120), way)
    assert sum(good for good, _ in results.values()) >= 0.95 * 120, evaluate.table(results)


async def test_greedy_answers_are_those_of_transformers(gateway: Gateway) -> None:
    asked = [case for case in evaluate.cases(200, seed=77) if case.first is None and len(case.pictures) == 1]
    asked = asked[:50]
    assert len(asked) == 50
    expected = _transformers_answers(asked)
    async with AsyncOpenAI(base_url=gateway.api, api_key="none") as client:
        answers = [await evaluate.ask(client, "llava-demo", case) for case in asked]
    assert answers == expected


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
        # An image of the model's input size is used as it is.
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
    # Imported here: they take 6 s, also where the tests of this file are only collected.
    import torch  # noqa: PLC0415
    from transformers import LlavaForConditionalGeneration, LlavaProcessor  # noqa: PLC0415

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
