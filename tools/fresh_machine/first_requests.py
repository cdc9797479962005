"""Sends a gateway that has just started every kind of request twice: the first may not be slower by much.

The kinds are those of tests/engine/test_one_life.py.
"""

import time
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.api.asking import MODEL, chat
from tests.engine.test_one_life import FIELDS, FORMS, LATER, OTHERS, SHORTEST


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that the first and the second request of a kind took."""

    kind: str
    first: float
    second: float

    @property
    def late(self) -> bool:
        return self.first > self.second + LATER


def kinds() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return path and body of a request of every kind: the shortest first, then log probabilities."""
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
