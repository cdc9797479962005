"""Sends a gateway that has just started every kind of request twice: the first may not be slower by much."""

import time
from dataclasses import dataclass
from typing import Any

import httpx2
from PIL import Image

from tests.api.asking import MODEL, chat, image, saying, text
from tests.images.pictures import url_of

LATER = 1.0  # seconds that the first request of a kind may take more than the second
Requests = dict[str, tuple[str, dict[str, Any]]]  # a request of each kind: its route below /v1, and its body
SCHEMA = {"type": "object", "properties": {"sides": {"type": "integer"}}, "required": ["sides"]}
TOOL = {"type": "function", "function": {"name": "count", "parameters": SCHEMA}}
FIELDS: dict[str, Any] = {  # a request each, with what it needs beside
    "max_tokens": {"max_tokens": 5},
    "max_completion_tokens": {"max_completion_tokens": 5},
    "temperature": {"temperature": 1},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 5},
    "min_p": {"min_p": 0.1},
    "n": {"n": 3},
    "seed": {"seed": 1, "temperature": 1},
    "stop": {"stop": "x"},
    "stop_token_ids": {"stop_token_ids": [5]},
    "presence_penalty": {"presence_penalty": 1},
    "frequency_penalty": {"frequency_penalty": 1},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "logit_bias": {"logit_bias": {"5": -100}},
    "min_tokens": {"min_tokens": 3},
    "ignore_eos": {"ignore_eos": True},
    "logprobs": {"logprobs": True},
    "top_logprobs": {"logprobs": True, "top_logprobs": 20},
}
PICTURE = image(url_of(Image.effect_noise((90, 70), 90)))
FORMS: dict[str, Any] = {
    "text": {},
    "stream": {"stream": True},
    "picture": {"messages": saying(PICTURE, text("What is it?"))},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "shape", "schema": SCHEMA}}
    },
    "regex": {"structured_outputs": {"regex": "[a-z]{3}"}},
    "choice": {"structured_outputs": {"choice": ["red", "blue"]}},
    "grammar": {"structured_outputs": {"grammar": 'root ::= "a" | "b"'}},
    "tools": {"tools": [TOOL]},
    "tool_choice": {"tools": [TOOL], "tool_choice": "required"},
}
# AMX was not allowed yet when the attention of so short a prompt used it: an engine's first request.
SHORTEST: Requests = {"two tokens": ("completions", {"model": MODEL, "prompt": [1, 20], "max_tokens": 2})}
OTHERS: Requests = {
    "completions": ("completions", {"prompt": ["Hello", "Hi"]}),
    "echo": ("completions", {"prompt": "Hello", "echo": True, "logprobs": 5}),
    "responses": ("responses", {"input": "Hello", "max_output_tokens": 5}),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that the first and the second request of a kind took."""

    kind: str
    first: float
    second: float

    @property
    def late(self) -> bool:
        return self.first > self.second + LATER


def kinds() -> Requests:
    """Return a request of every kind: the shortest first, then log probabilities."""
    chats = {name: ("chat/completions", chat(max_tokens=5) | more) for name, more in (FIELDS | FORMS).items()}
    others = {name: (path, {"model": MODEL} | body) for name, (path, body) in OTHERS.items()}
    return SHORTEST | {"logprobs": chats.pop("logprobs")} | chats | others


def sweep(api: str) -> list[Timing]:
    """Return the timings of every kind. Raises RuntimeError if one is not answered with 200."""
    return [Timing(kind, _ask(api, kind, *what), _ask(api, kind, *what)) for kind, what in kinds().items()]


def _ask(api: str, kind: str, path: str, body: dict[str, Any]) -> float:
    began = time.monotonic()
    answer = httpx2.post(f"{api}/{path}", json=body, timeout=120, trust_env=False)
    if answer.status_code != 200:
        raise RuntimeError(f"{kind}: {answer.status_code} {answer.text[:300]}")
    return time.monotonic() - began
