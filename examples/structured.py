"""Get an answer as an object: `python structured.py PICTURE`. The form is certain, the content is not."""

import base64
import os
import sys
from pathlib import Path
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel


class Shape(BaseModel):
    colour: Literal["red", "green", "blue", "yellow"]
    kind: Literal["circle", "square", "triangle", "star"]


client = OpenAI(base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
data = base64.b64encode(Path(sys.argv[1]).read_bytes()).decode()
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
