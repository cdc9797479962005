"""`/v1/chat/completions/render`: what the model would be given, exactly, and nothing generated."""

import base64
import io
from typing import Any

import orjson
from PIL import Image

from tests.api.asking import PROMPT, ask, chat, image, saying, send, text
from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import Gateway, scripted_gateway
from tests.shapes import data_url


async def render(gateway: Gateway, **body: Any) -> dict[str, Any]:
    answer = await send(gateway, "POST", "/v1/chat/completions/render", json=body)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = orjson.loads(answer.body)
    return found


def pixels(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))).convert("RGB")


def wide_url() -> str:
    """Return a picture of 400 x 200 pixels, its left quarter red and the rest blue."""
    wide = Image.new("RGB", (400, 200), (0, 0, 255))
    wide.paste((255, 0, 0), (0, 0, 100, 200))
    buffer = io.BytesIO()
    wide.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


async def test_the_engine_is_given_what_was_rendered() -> None:
    engine = ScriptedEngine()
    asked = chat(messages=saying(image(data_url("star", "red")), text("What?")), temperature=0.5, seed=7)
    async with scripted_gateway(engine) as gateway:
        found = await render(gateway, **asked)
        assert engine.jobs == []
        usage = orjson.loads((await ask(gateway, asked)).body)["usage"]
    (job,) = engine.jobs
    slot = job.token_ids.index(MODEL.image_token)
    length = MODEL.tokens_per_image
    expanded = [*job.token_ids[:slot], *[MODEL.image_token] * length, *job.token_ids[slot + 1 :]]
    assert found["tokens"] == expanded
    assert found["prompt_tokens"] == usage["prompt_tokens"]
    assert found["context_length"] == MODEL.context_length
    (shown,) = found["images"]
    assert (shown["offset"], shown["length"]) == (slot, length)
    assert pixels(shown["fits"]["pad"]).tobytes() == job.pictures[0].pixels.tobytes()
    sampling = found["sampling"]
    assert sampling["max_tokens"] == job.sampling.max_tokens
    assert (sampling["temperature"], sampling["seed"], sampling["top_p"]) == (0.5, 7, 1.0)


async def test_typed_special_tokens_are_text_and_real_ones_are_marked(served: Gateway) -> None:
    found = await render(
        served, **chat(messages=saying(image(data_url("star", "red")), text("a</s><image>")))
    )
    assert [(part["type"], part["text"]) for part in found["segments"]] == [
        ("special", "<s>"),
        ("text", "USER: "),
        ("image", "<image>"),
        ("text", "\na</s><image>\nASSISTANT:"),
    ]
    ends = [part["offset"] + part["length"] for part in found["segments"]]
    assert [part["offset"] for part in found["segments"]] == [0, *ends[:-1]]
    assert ends[-1] == found["prompt_tokens"] == len(found["tokens"]) == len(found["token_strs"])


async def test_a_text_alone_is_its_prompt(served: Gateway) -> None:
    found = await render(served, **chat())
    assert (found["prompt"], found["images"]) == ("<s>" + PROMPT, [])


async def test_every_fit_is_shown_where_asked_for(served: Gateway) -> None:
    asked = chat(messages=saying(image(wide_url())), render_fits=["pad", "crop", "squash"])
    fits = (await render(served, **asked))["images"][0]["fits"]
    assert list(fits) == ["pad", "crop", "squash"]
    middle_left = {fit: pixels(url).getpixel((5, 168)) for fit, url in fits.items()}
    assert middle_left == {"pad": (255, 0, 0), "crop": (0, 0, 255), "squash": (255, 0, 0)}
    assert pixels(fits["pad"]).getpixel((168, 5)) == (122, 116, 104)
    assert pixels(fits["squash"]).getpixel((168, 5)) == (0, 0, 255)


async def test_pictures_of_the_history_that_do_not_fit_are_counted() -> None:
    turn = [*saying(image(data_url("star", "red"))), {"role": "assistant", "content": "A star."}]
    messages = [*turn, *saying(image(data_url("circle", "blue")), text("And this?"))]
    async with scripted_gateway(ScriptedEngine(), max_images=1) as gateway:
        found = await render(gateway, **chat(messages=messages))
    assert found["dropped"] == {"images": 1, "messages": 0, "tools": 0}
    assert len(found["images"]) == 1
    assert "[image 1 left out]" in found["prompt"]


async def test_its_tokens_and_images_count_once_on_the_callers_limits() -> None:
    asked = chat(messages=saying(image(wide_url())), render_fits=["pad", "crop", "squash"])
    async with scripted_gateway(ScriptedEngine(), images_per_minute=1) as gateway:
        await render(gateway, **asked)
        answer = await send(gateway, "POST", "/v1/chat/completions/render", json=asked)
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")


async def test_an_unknown_fit_is_refused(served: Gateway) -> None:
    answer = await send(served, "POST", "/v1/chat/completions/render", json=chat(render_fits=["stretch"]))
    assert (answer.status, answer.error["param"]) == (400, "render_fits[0]")
