"""Talk about a picture in the terminal, answers streamed: a question a line; Ctrl-D ends it."""

import argparse
import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("picture", type=Path)
path = parser.parse_args().picture

client = OpenAI(base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
model = client.models.list().data[0].id
data = base64.b64encode(path.read_bytes()).decode()
picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
messages = []
for question in sys.stdin:
    parts = [{"type": "text", "text": question.strip()}]
    # The first turn has the picture; the conversation is sent again with every question.
    messages.append({"role": "user", "content": parts if messages else [picture, *parts]})
    answer = ""
    for chunk in client.chat.completions.create(model=model, messages=messages, temperature=0, stream=True):
        piece = chunk.choices[0].delta.content or ""
        print(piece, end="", flush=True)
        answer += piece
    print()
    messages.append({"role": "assistant", "content": answer})
