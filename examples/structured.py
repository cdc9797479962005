"""Get an answer as an object. The form is certain, the content is not."""

import argparse
import base64
import os
from pathlib import Path
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel


class Shape(BaseModel):
    colour: Literal["red", "green", "blue", "yellow"]
    kind: Literal["circle", "square", "triangle", "star"]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("picture", type=Path)
path = parser.parse_args().picture

client = OpenAI(base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
data = base64.b64encode(path.read_bytes()).decode()
reply = client.chat.completions.parse(
    model=client.models.list().data[0].id,
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
                {"type": "text", "text": "What is in the image?"},
            ],
        }
    ],
    response_format=Shape,
    temperature=0,
)
print(repr(reply.choices[0].message.parsed))
