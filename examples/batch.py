"""Answer many requests through the batch API."""

import argparse
import json
import os
import time

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("picture", help="path of a picture")
parser.add_argument("questions", nargs="+", help="questions about it")
asked = parser.parse_args()

client = OpenAI(base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
model = client.models.list().data[0].id
with open(asked.picture, "rb") as file:
    picture = client.files.create(file=file, purpose="vision")

lines = []
for number, question in enumerate(asked.questions):
    parts = [{"type": "file", "file": {"file_id": picture.id}}, {"type": "text", "text": question}]
    body = {"model": model, "messages": [{"role": "user", "content": parts}], "temperature": 0}
    line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
    lines.append(json.dumps(line))
source = client.files.create(file=("batch.jsonl", "\n".join(lines).encode()), purpose="batch")

batch = client.batches.create(
    input_file_id=source.id, endpoint="/v1/chat/completions", completion_window="24h"
)
while batch.status in ("validating", "in_progress", "finalizing"):
    time.sleep(0.5)
    batch = client.batches.retrieve(batch.id)
results = map(json.loads, client.files.content(batch.output_file_id).text.splitlines())
for result in sorted(results, key=lambda result: int(result["custom_id"])):
    answer = result["response"]["body"]["choices"][0]["message"]["content"]
    print(f"{asked.questions[int(result['custom_id'])]} {answer}")
