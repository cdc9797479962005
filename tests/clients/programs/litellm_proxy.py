"""litellm's proxy in front of the gateway, and OpenAI's package in front of the proxy."""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import openai
from shared import ANSWER, KEY, MODEL, URL, asked, expect, raises, run

with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    PORT = found.getsockname()[1]
config = Path(tempfile.mkdtemp()) / "config.yaml"
upstream = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY}
config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": upstream}]}))
command = [str(Path(sys.executable).with_name("litellm")), "--config", str(config), "--port", str(PORT)]
proxy = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=sys.stderr, stderr=sys.stderr)
client = openai.OpenAI(base_url=f"http://127.0.0.1:{PORT}/v1", api_key="sk-any", max_retries=0)


def is_up() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health/liveliness", timeout=2):
            return True
    except OSError:
        return False


def ask(**fields: object) -> object:
    return client.chat.completions.create(**{"model": MODEL, "messages": [asked()], "temperature": 0, **fields})


def whole() -> None:
    expect(ask().choices[0].message.content, ANSWER)


def streamed() -> None:
    expect("".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True) if chunk.choices), ANSWER)


def turns() -> None:
    first = ask().choices[0].message.model_dump()
    reply = ask(messages=[asked(), first, {"role": "user", "content": "What colour is the star?"}])
    expect(reply.choices[0].message.content, "Red.")


def errors() -> None:
    raises(openai.BadRequestError, lambda: ask(n=0))
    # What a chat model cannot do must not take the deployment out for the next caller.
    raises(openai.APIStatusError, lambda: client.embeddings.create(model=MODEL, input="x"))
    for _ in range(3):
        whole()


deadline = time.monotonic() + 120
while not is_up() and proxy.poll() is None and time.monotonic() < deadline:
    time.sleep(0.5)
run(dict(whole=whole, streamed=streamed, turns=turns, errors=errors), at_end=proxy.kill)
