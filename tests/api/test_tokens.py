"""`/tokenize` and `/detokenize` in vLLM's shape: the exact prompt, and no picture fetched."""

from dataclasses import replace
from typing import Any

import orjson

from tests.api.asking import PROMPT, ask, chat, image, saying, send, text
from tests.each import each
from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import Gateway, scripted_gateway
from tests.shapes import data_url


def ids(words: str) -> list[int]:
    return [byte + 3 for byte in words.encode()]


async def tokenize(gateway: Gateway, **body: Any) -> dict[str, Any]:
    answer = await send(gateway, "POST", "/tokenize", json=body)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = orjson.loads(answer.body)
    return found


async def test_a_text_is_tokenized_after_one_bos(served: Gateway) -> None:
    assert await tokenize(served, model="llava-demo", prompt="Hi</s>") == {
        "count": 7,
        "max_model_len": 2048,
        "tokens": [1, *ids("Hi</s>")],
        "token_strs": None,
        "images": [],
    }


async def test_the_bos_may_be_left_out_and_the_tokens_be_spelt(served: Gateway) -> None:
    found = await tokenize(served, prompt="Hi", add_special_tokens=False, return_token_strs=True)
    assert (found["tokens"], found["token_strs"], found["count"]) == (ids("Hi"), ["H", "i"], 2)


async def test_a_chat_is_its_prompt(served: Gateway) -> None:
    found = await tokenize(served, **chat(), return_token_strs=True)
    assert found["tokens"] == [1, *ids(PROMPT)]
    assert found["token_strs"] == ["<s>", *PROMPT]


async def test_a_chats_pictures_are_slots_that_nobody_fetches() -> None:
    engine = ScriptedEngine()
    url = "http://pictures.example.org/never.png"
    async with scripted_gateway(engine) as gateway:
        found = await tokenize(gateway, **chat(messages=saying(image(url), image(url), text("Which?"))))
    first, second = found["images"]
    length = MODEL.tokens_per_image
    assert (first["length"], second["length"]) == (length, length)
    for slot in (first, second):
        assert found["tokens"][slot["offset"] : slot["offset"] + length] == [MODEL.image_token] * length
    assert found["tokens"].count(MODEL.image_token) == 2 * length
    assert found["count"] == len(found["tokens"])
    assert engine.jobs == []


async def test_the_count_is_the_usage_of_the_same_chat(served: Gateway) -> None:
    asked = chat(messages=saying(image(data_url("star", "red")), text("What?")))
    usage = orjson.loads((await ask(served, asked)).body)["usage"]
    assert (await tokenize(served, **asked))["count"] == usage["prompt_tokens"]


async def test_detokenize_gives_the_text_back(served: Gateway) -> None:
    tokens = (await tokenize(served, prompt="Hé, a <image>"))["tokens"]
    answer = await send(served, "POST", "/detokenize", json={"tokens": tokens})
    assert orjson.loads(answer.body) == {"prompt": "<s>Hé, a <image>"}


@each(
    ("path", "body", "status", "code"),
    [
        ("/tokenize", {"model": "x", "prompt": "a"}, 404, "model_not_found"),
        ("/tokenize", {}, 400, "missing_required_parameter"),
        ("/tokenize", {"prompt": "a", "colour": 1}, 400, "unknown_parameter"),
        ("/tokenize", {"prompt": "a" * 60_000}, 400, "context_length_exceeded"),
        ("/tokenize", {"messages": []}, 400, "invalid_value"),
        ("/tokenize", chat(tools_of="x"), 400, "unknown_parameter"),
        ("/detokenize", {"model": "x", "tokens": [5]}, 404, "model_not_found"),
        ("/detokenize", {"tokens": [5, 1001]}, 400, "invalid_value"),
        ("/detokenize", {"tokens": [-1]}, 400, "invalid_value"),
        ("/detokenize", {"tokens": [5] * 2049}, 400, "invalid_value"),
        ("/detokenize", {"tokens": "x"}, 400, "invalid_value"),
    ],
)
async def test_bad_requests_are_refused(
    served: Gateway, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await send(served, "POST", path, json=body)
    assert (answer.status, answer.error["code"]) == (status, code)


async def test_a_model_tells_what_the_running_engine_takes() -> None:
    engine = ScriptedEngine(model=replace(MODEL, context_length=300))  # the profile has 2048
    async with scripted_gateway(engine) as gateway:
        model = orjson.loads((await send(gateway, "GET", "/v1/models/llava-demo")).body)
    assert model["max_model_len"] == 300
    assert model["gateway"] == {
        "context_length": 300,
        "tokens_per_image": MODEL.tokens_per_image,
        "max_images": 4,
        "prompt_style": "card",
        "image_fit": "pad",
        "image_place": "auto",
        "max_image_bytes": 20 * 2**20,
        "max_body_bytes": 64 * 2**20,
    }
