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
from offered import TOOL
from pydantic import BaseModel, Field
from shared import ANSWER, AWAY, KEY, LIMITED, LONG, MODEL, URL, asked, expect, leaving, raises, run, twice

with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    PORT = found.getsockname()[1]
config = Path(tempfile.mkdtemp()) / "config.yaml"
upstream = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY}
models = {
    MODEL: upstream,
    "unknown": upstream | {"model": "openai/no-such"},
    "wrong-key": upstream | {"api_key": "sk-wrong"},
    "limited": upstream | {"api_key": LIMITED},
    "away": upstream | {"api_base": AWAY},
}
deployments = [{"model_name": name, "litellm_params": params} for name, params in models.items()]
settings = {"num_retries": 0}
config.write_text(json.dumps({"model_list": deployments, "litellm_settings": settings, "router_settings": settings}))
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


class Shape(BaseModel):
    count: int = Field(ge=0, le=9)


def structured() -> None:
    schema = {"name": "shape", "schema": Shape.model_json_schema(), "strict": True}
    reply = ask(response_format={"type": "json_schema", "json_schema": schema}, max_tokens=64)
    Shape.model_validate_json(reply.choices[0].message.content)


def tool() -> None:
    (call,) = ask(tools=[TOOL], tool_choice="required").choices[0].message.tool_calls
    expect(call.function.name, "note")


def errors() -> None:
    raises(openai.BadRequestError, lambda: ask(n=0))
    raises(openai.NotFoundError, lambda: ask(model="unknown"))
    raises(openai.AuthenticationError, lambda: ask(model="wrong-key"))
    raises(openai.RateLimitError, lambda: twice(lambda: ask(model="limited")))
    raises(openai.InternalServerError, lambda: ask(model="away"))
    # What a chat model cannot do must not take the deployment out for the next caller.
    raises(openai.APIStatusError, lambda: client.embeddings.create(model=MODEL, input="x"))
    for _ in range(3):
        whole()


def abort() -> None:
    with leaving(), ask(stream=True, max_tokens=2000, extra_body=LONG) as stream:
        next(iter(stream))


deadline = time.monotonic() + 120
while not is_up() and proxy.poll() is None and time.monotonic() < deadline:
    time.sleep(0.5)
run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, tool=tool, errors=errors, abort=abort), at_end=proxy.kill)
