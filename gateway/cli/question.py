"""Builds a question about images, and streams its answer."""

import base64
import mimetypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from openai import OpenAI

from gateway.cli.common import BadInput

STANDARD: Final = "-"
URLS: Final = ("http://", "https://", "data:")


def image_url(source: str) -> str:
    """Return the URL for an image: a file, a URL, or `-` for standard input. Raises BadInput.

    The gateway fetches a URL; other images are sent as data URLs.
    """
    if source.lower().startswith(URLS):
        return source
    if source == STANDARD:
        content = sys.stdin.buffer.read()
        if not content:
            raise BadInput("standard input: it is empty; an image is read from it")
        return data_url(content)
    try:
        return file_url(Path(source))
    except OSError as error:
        raise BadInput(f"{source}: {error.strerror}") from None


def file_url(path: Path) -> str:
    """Return the file as a data URL. Raises OSError."""
    return data_url(path.read_bytes(), mimetypes.guess_type(path.name)[0])


def data_url(content: bytes, media_type: str | None = None) -> str:
    # The gateway finds the format in the bytes.
    return f"data:{media_type or 'image/jpeg'};base64,{base64.b64encode(content).decode()}"


def request(model: str, urls: Sequence[str], text: str, max_tokens: int) -> dict[str, Any]:
    """Return the body of a chat completion that asks `text` about the images."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]
    return {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}


def answer(client: OpenAI, body: dict[str, Any]) -> bytes:
    """Return the answer as indented JSON. Raises openai.APIError."""
    found = client.post("/chat/completions", body=body, cast_to=object)
    return orjson.dumps(found, option=orjson.OPT_INDENT_2)


def stream(client: OpenAI, body: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the answer's text as it comes, each piece with its finish reason. Raises openai.APIError."""
    for chunk in client.chat.completions.create(**body, stream=True):
        if chunk.choices:
            yield chunk.choices[0].delta.content or "", chunk.choices[0].finish_reason
