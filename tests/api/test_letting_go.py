"""While a request is answered, the gateway no longer holds the base64 text and bytes of its images."""

import tracemalloc
from typing import Any

import orjson
import pytest
from PIL import Image

from tests.api.asking import chat, image, saying
from tests.api.wire import CHAT, connected, head
from tests.images.pictures import data_url, encoded
from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway, until

MB = 2**20
RESPONSES = "/v1/responses"
URL = data_url(encoded(Image.new("RGB", (64, 48)), "JPEG").ljust(5 * MB))
ITEMS = [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]
RESPONSE = {"model": "llava-demo", "input": ITEMS}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat(messages=saying(image(URL)))),
        (RESPONSES, RESPONSE),
        (RESPONSES, RESPONSE | {"store": False}),
    ],
    ids=["chat", "response", "response that is not stored"],
)
async def test_an_images_text_is_let_go_before_the_first_token(
    path: str, body: dict[str, Any], stream: bool
) -> None:
    content = orjson.dumps(body | {"stream": stream})
    request = head("POST", path, f"content-length: {len(content)}") + content
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine) as gateway, connected(gateway) as connection:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await connection.send(request)
            await until(lambda: engine.running == 1)
            _, most = tracemalloc.get_traced_memory()
            # A thread may drop what it stored a moment after it has said that it is stored.
            await until(lambda: tracemalloc.get_traced_memory()[0] - before < MB, 2)
        finally:
            tracemalloc.stop()
    assert most - before > 10 * MB  # it was there
