"""Ask about two pictures at once."""

import argparse
import base64
import os
from pathlib import Path

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__)
for name in ("first", "second", "question"):
    parser.add_argument(name)
asked = parser.parse_args()

client = OpenAI(base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")


def image(path: str) -> dict:
    """Return the picture as a part of a message."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


reply = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[
        {
            "role": "user",
            "content": [image(asked.first), image(asked.second), {"type": "text", "text": asked.question}],
        }
    ],
    temperature=0,
)
print(reply.choices[0].message.content)
