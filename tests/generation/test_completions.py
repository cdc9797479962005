"""The log probabilities of a whole completion, and what memory they take."""

import tracemalloc
from collections.abc import Iterator

import orjson
import pytest

from gateway.access.memory_budgets import LOGPROB
from gateway.engine.interface import Delta, TokenLogprob
from gateway.generation.completions import TextChoices, TextReply

TOKENS = 2000
VLLMS = 116  # bytes of a log probability while vLLM keeps it: two numbers and four places in lists


def told(index: int, top: int) -> Iterator[Delta]:
    """Yield an answer, a token at a time, each with the `top` likeliest beside its own."""
    for place in range(TOKENS):
        at = -1.0 - place / 7
        likeliest = tuple(TokenLogprob(f"é{rank}", b"", at - rank) for rank in range(top))
        end = "stop" if place == TOKENS - 1 else None
        entry = TokenLogprob("é", b"", at, likeliest)
        yield Delta(index, "é", 1, 10, finish_reason=end, logprobs=(entry,))  # type: ignore[arg-type]


def test_each_choice_has_the_log_probabilities_of_its_tokens_in_their_order() -> None:
    reply, whole = TextReply((), 2, silent=False), TextChoices()
    for pair in zip(told(1, 2), told(0, 0), strict=True):
        for delta in pair:
            gain = reply.chunk(delta)
            assert gain is not None
            whole.take(gain)
    first, second = orjson.loads(orjson.dumps(whole.choices()))
    assert (first["index"], first["text"], first["finish_reason"]) == (0, "é" * TOKENS, "stop")
    numbers = [-1.0 - place / 7 for place in range(TOKENS)]
    tops: list[list[dict[str, float]]] = [
        [{"é": at} for at in numbers],
        [{"é": at, "é0": at, "é1": at - 1} for at in numbers],
    ]
    for choice, top_logprobs in zip((first, second), tops, strict=True):
        assert choice["logprobs"] == {
            "tokens": ["é"] * TOKENS,
            "token_logprobs": numbers,
            "top_logprobs": top_logprobs,
            "text_offset": list(range(TOKENS)),
        }


@pytest.mark.parametrize("top", [0, 1, 5])
def test_the_log_probabilities_of_a_whole_answer_take_less_than_what_is_held_for_them(top: int) -> None:
    reply, whole = TextReply((), 1, silent=False), TextChoices()
    tracemalloc.start()
    for delta in told(0, top):
        if gain := reply.chunk(delta):
            whole.take(gain)
    body = orjson.dumps(whole.choices())
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(body) > TOKENS
    assert highest + VLLMS * TOKENS * (1 + top) < LOGPROB * TOKENS * (2 + top)
