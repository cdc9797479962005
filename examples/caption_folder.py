"""Caption every PNG of a folder, several at a time."""

import argparse
import base64
import mimetypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
folder = parser.parse_args().folder

client = OpenAI(base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
model = client.models.list().data[0].id


def caption(path: Path) -> str:
    """Return what the model sees in the picture."""
    media_type = mimetypes.guess_type(path)[0]
    url = f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What is in the image?"},
    ]
    messages = [{"role": "user", "content": parts}]
    reply = client.chat.completions.create(model=model, messages=messages, temperature=0)
    return reply.choices[0].message.content


pictures = sorted(folder.glob("*.png"))
with ThreadPoolExecutor(8) as pool:
    for path, text in zip(pictures, pool.map(caption, pictures), strict=True):
        print(f"{path.name}: {text}")
