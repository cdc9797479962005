"""Which pictures the model is given for a request: what the gateway's render route shows, pixel by pixel."""

import base64
import io
from typing import Any

import httpx2
from PIL import Image

from tests.servers import Gateway
from tests.shapes import encoded

NEWEST = 7  # as many pictures as LLaVA's context holds


async def pictures(gateway: Gateway, body: dict[str, Any], key: str = "none") -> list[bytes]:
    """Return the RGB pixels of the pictures in the prompt that `body` makes."""
    headers = {"authorization": f"Bearer {key}"}
    kept = {name: value for name, value in body.items() if name != "stream"}
    async with httpx2.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{gateway.api}/chat/completions/render", json=kept, headers=headers)
    assert answer.status_code == 200, answer.text
    urls = [next(iter(image["fits"].values())) for image in answer.json()["images"]]
    return [pixels(base64.b64decode(url.partition(",")[2])) for url in urls]


def pixels(file: bytes) -> bytes:
    return Image.open(io.BytesIO(file)).convert("RGB").tobytes()


def newest(turns: list[tuple[str, str]]) -> list[bytes]:
    """Return the pixels of the pictures of these turns that fit, oldest first."""
    return [pixels(encoded(kind, colour)) for kind, colour in turns[-NEWEST:]]
