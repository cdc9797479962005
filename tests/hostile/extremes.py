"""Random requests whose sampling parameters lie at the edges of what is allowed, or beyond."""

import random
from collections.abc import Iterator
from typing import Any

from tests.api.asking import chat

CHANCE = 0.3  # of each parameter to be there
EDGES: dict[str, tuple[Any, ...]] = {
    "temperature": (0, -0.0, 5e-324, 1e-308, 1e-6, 0.009, 1, 2, 2.0000001, -1, 1e308),
    "top_p": (5e-324, 1e-12, 0.5, 1, 1.0000001, 0, -1),
    "top_k": (-1, 0, 1, 2, 1000, 2**31 - 1, 2**31, 2**63 - 1, 2**63),
    "min_p": (0, 5e-324, 0.5, 1, 1.1),
    "presence_penalty": (-2, 2, 5e-324, -2.1),
    "frequency_penalty": (-2, 2, -5e-324, 2.1),
    "repetition_penalty": (5e-324, 1e-30, 0.01, 1, 2, 10, 0, 1e308),
    "seed": (0, -1, 2**31, 2**63 - 1, -(2**63), 2**63, 2**64 - 1),
    "n": (1, 2, 16, 17, 0),
    "logprobs": (True, False),
    "top_logprobs": (0, 1, 20, 21),
    "max_tokens": (1, 2, 3, 0),
    "min_tokens": (0, 1, 2, 4096),
    "ignore_eos": (True, False),
    "stop": ("", "a", [], ["a", "\0"], ["\U0010ffff"], ["x"] * 5, "z" * 1000),
    "stop_token_ids": ([], [0], [2], [-1], [2**31], [2**63]),
    "logit_bias": ({"0": -100}, {"2": 100}, {str(i): -100 for i in range(300)}, {"2147483648": 1}, {}),
    "response_format": ({"type": "text"}, {"type": "json_object"}),
    "stream": (False, True),
}


def requests(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield `count` chat requests, always the same for a seed."""
    draw = random.Random(seed)
    for _ in range(count):
        fields = {name: draw.choice(edges) for name, edges in EDGES.items() if draw.random() < CHANCE}
        yield chat(**{"max_tokens": 2, **fields})
