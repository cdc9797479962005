"""The bodies and the pictures are what the comparison says they are."""

import io
import random

import orjson
import pytest
from PIL import Image

from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.validation import parse
from tests.scripted_engine import MODEL as SCRIPTED
from tools.bench import pictures, workloads
from tools.bench.workloads import WORKLOADS, Ask, Mixed

pytestmark = pytest.mark.slow

MODEL = SCRIPTED.name


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_body_is_a_valid_request_and_no_two_are_the_same(name: str) -> None:
    plan = WORKLOADS[name].make(MODEL, 1)
    load = plan.pour if isinstance(plan, Mixed) else plan
    asks = [*load.warm_up, *(ask for conversation in load.conversations for ask in conversation)]
    requests = [parse(ask.body, ChatCompletionRequest) for ask in asks[:12]]
    assert all(request.max_tokens == request.min_tokens for request in requests)
    assert all(request.ignore_eos for request in requests)
    pictures_of = {url for ask in asks for url in urls(ask)}
    if not name.startswith("text"):
        assert all(ask.answer for ask in asks)
    if name in {"jpeg-336", "jpeg-1600", "jpeg-12mp", "png-2000"}:
        assert len(pictures_of) == len(asks)


def urls(ask: Ask) -> list[str]:
    messages = orjson.loads(ask.body)["messages"]
    parts = [
        part for message in messages if isinstance(message["content"], list) for part in message["content"]
    ]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def test_a_chat_sends_everything_again_and_brings_two_pictures() -> None:
    plan = workloads.chat(MODEL, 1)
    ((*turns,),) = plan.conversations
    assert [len(urls(turn)) for turn in turns] == [1, 1, 1, 2, 2, 2]
    assert len(orjson.loads(turns[-1].body)["messages"]) == 11


def test_pictures_are_the_same_each_time_and_as_large_as_a_cameras() -> None:
    shot = pictures.photograph_jpeg("one", 4000, 3000)
    assert shot.data == pictures.photograph_jpeg("one", 4000, 3000).data
    assert shot.data != pictures.photograph_jpeg("two", 4000, 3000).data
    assert len(shot.data) >= 3_000_000
    assert Image.open(io.BytesIO(shot.data)).size == (4000, 3000)


def test_a_screenshot_is_a_png_of_2000_pixels() -> None:
    shot = pictures.screenshot_png("one")
    image = Image.open(io.BytesIO(shot.data))
    assert (image.format, image.size) == ("PNG", (2000, 1250))
    assert len(shot.data) >= 100_000


@pytest.mark.parametrize("ratio", [1.0, 0.75, 0.625])
def test_all_shapes_lie_in_the_middle_square(ratio: float) -> None:
    scene = pictures.middle_scene(random.Random(5), ratio)
    assert scene.height == ratio
    for shape in scene.shapes:
        assert 0.5 - ratio / 2 <= shape.x - shape.radius
        assert shape.x + shape.radius <= 0.5 + ratio / 2
