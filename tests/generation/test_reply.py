"""From deltas to chunks to a whole reply, without a server."""

import math
import tracemalloc
from collections.abc import Callable

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.interface import Delta, FinishReason, TokenLogprob
from gateway.generation.reply import Reply, fold, packed
from gateway.schema.chat_answer import Chunk


def delta(text: str, index: int = 0, finish: FinishReason | None = None, **fields: object) -> Delta:
    return Delta(index, text, 1, 10, finish_reason=finish, **fields)  # type: ignore[arg-type]  # by name


def chunks(*deltas: Delta) -> list[Chunk]:
    reply = Reply()
    return [chunk for each in deltas if (chunk := reply.chunk(each)) is not None]


def test_each_choice_opens_once_and_loses_its_own_first_blank() -> None:
    found = chunks(delta(" A"), delta(" B", 1), delta(" a"), delta(" b", 1))
    assert [(chunk.index, chunk.content, chunk.opens) for chunk in found] == [
        (0, "A", True),
        (1, "B", True),
        (0, " a", False),
        (1, " b", False),
    ]


def test_delta_that_tells_nothing_is_no_chunk() -> None:
    assert chunks(delta(""), delta(" ")) == []


def test_end_without_words_is_a_chunk_that_opens() -> None:
    assert chunks(delta("", finish="stop")) == [Chunk(0, "", opens=True, finish_reason="stop")]


def test_usage_adds_up_over_choices_and_deltas() -> None:
    reply = Reply()
    for each in (delta(" a"), delta(" b", 1), delta("", 1), delta("c", finish="stop", cached_tokens=4)):
        reply.chunk(each)
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 4, 14)
    assert usage.prompt_tokens_details.cached_tokens == 4


def test_choices_come_in_the_order_of_their_numbers() -> None:
    choices = fold(chunks(delta("b", 1, "length"), delta("a", 0, "stop")))
    assert [(choice.index, choice.message.content, choice.finish_reason) for choice in choices] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]


def test_improbable_tokens_have_a_logprob_that_json_can_say() -> None:
    entry = TokenLogprob("x", b"x", -math.inf, (TokenLogprob("y", b"y", -math.inf),))
    (chunk,) = chunks(delta("x", logprobs=(entry,)))
    assert chunk.logprobs is not None
    (told,) = chunk.logprobs.content
    assert (told.logprob, told.top_logprobs[0].logprob) == (-9999.0, -9999.0)


def test_bytes_of_a_token_that_is_no_text_by_itself_are_told() -> None:
    entry = TokenLogprob("\ufffd", b"\xe4", -1.0)
    (chunk,) = chunks(delta("", logprobs=(entry,)))
    assert chunk.logprobs is not None
    assert chunk.logprobs.content[0].bytes == [0xE4]


@given(st.lists(st.lists(st.text(" ab\n", max_size=3), min_size=1, max_size=6), min_size=1, max_size=4))
def test_fold_is_the_text_without_the_prompts_blank(said: list[list[str]]) -> None:
    deltas = [
        delta(word, index, "stop" if place == len(words) - 1 else None)
        for index, words in enumerate(said)
        for place, word in enumerate(words)
    ]
    choices = fold(chunks(*deltas))
    assert [choice.message.content for choice in choices] == [
        "".join(words).removeprefix(" ") for words in said
    ]


def test_packed_log_probabilities_are_written_as_they_were_and_take_half_the_memory() -> None:
    top = tuple(TokenLogprob(f"é{rank}", f"é{rank}".encode(), -1.0 - rank) for rank in range(20))
    told = delta("é", logprobs=(TokenLogprob("é", "é".encode(), -1.0, top),))
    (one,) = chunks(told)
    assert orjson.dumps(packed(one).logprobs) == orjson.dumps(one.logprobs)
    assert _taken(packed, told) < _taken(lambda chunk: chunk, told) / 2


def _taken(keep: Callable[[Chunk], Chunk], told: Delta) -> int:
    """Return the bytes that 1,000 kept chunks take."""
    reply = Reply()
    tracemalloc.start()
    kept = [keep(chunk) for _ in range(1000) if (chunk := reply.chunk(told))]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 1000
    return taken
