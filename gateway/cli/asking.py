"""Asks a question about an image through the `openai` package."""

import base64
import mimetypes
from collections.abc import Iterator
from pathlib import Path

from openai import DefaultHttpxClient, OpenAI

from gateway.cli.common import uses_environment


def answer(
    picture: Path, question: str, base_url: str, model: str | None, max_tokens: int, *, api_key: str
) -> Iterator[str]:
    """Yield the answer's pieces as they come. Raises openai.APIError."""
    http = DefaultHttpxClient(trust_env=uses_environment(base_url))
    client = OpenAI(base_url=base_url, api_key=api_key or "none", http_client=http)
    media_type = mimetypes.guess_type(picture.name)[0] or "image/jpeg"
    encoded = base64.b64encode(picture.read_bytes()).decode()
    stream = client.chat.completions.create(
        model=model or client.models.list().data[0].id,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{encoded}"}},
                    {"type": "text", "text": question},
                ],
            }
        ],
        temperature=0,
        max_tokens=max_tokens,
        stream=True,
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content
