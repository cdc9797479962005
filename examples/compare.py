"""Ask about two pictures at once: `python compare.py FIRST SECOND QUESTION`."""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
first, second, question = sys.argv[1:]


def image(path: str) -> dict:
    """Return the picture as a part of a message."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


reply = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": [image(first), image(second), {"type": "text", "text": question}]}],
    temperature=0,
)
print(reply.choices[0].message.content)
