"""The events of a response, without a server."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.interface import Sampling
from gateway.generation import responses
from gateway.generation.response_events import ResponseEvents
from gateway.schema import sse
from gateway.schema.chat_answer import AnswerLogprob, Chunk, Logprobs
from gateway.schema.responses_answer import InputTokensDetails, OutputTokensDetails, ResponseUsage
from gateway.schema.responses_request import ResponseRequest
from gateway.schema.validation import parse

USAGE = ResponseUsage(5, InputTokensDetails(0), 3, OutputTokensDetails(), 8)


def events() -> ResponseEvents:
    request = parse(b'{"model": "m", "input": "x"}', ResponseRequest)
    return ResponseEvents(responses.started(request, "resp_1", 0, "m", Sampling(max_tokens=9), stored=False))


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5))
def test_the_short_way_of_more_text_writes_what_the_general_one_does(words: list[str]) -> None:
    short, general = events(), events()
    for each in (short, general):
        list(each.chunk(Chunk(0, "A", opens=True)))
    for word in words:
        event = short.more_text(Chunk(0, word))
        assert event is not None
        (told,) = general.chunk(Chunk(0, word))
        name, data = event.removesuffix(b"\n\n").split(b"\n")
        expected_name, expected = sse.typed(told).removesuffix(b"\n\n").split(b"\n")
        assert name == expected_name
        one, other = (orjson.loads(text.removeprefix(b"data: ")) for text in (data, expected))
        assert len(one.pop("item_id")) == len(other.pop("item_id"))
        assert one == other


def test_only_more_text_is_more_text() -> None:
    told = events()
    assert told.more_text(Chunk(0, "A", opens=True)) is None
    list(told.chunk(Chunk(0, "A", opens=True)))
    assert told.more_text(Chunk(0, "b", finish_reason="stop")) is None
    assert told.more_text(Chunk(0, "b", logprobs=Logprobs([AnswerLogprob("b", -1.0, [98], [])]))) is None
    assert told.more_text(Chunk(0, "b")) is not None
    *_, done = told.close()
    assert done.item.content[0].text == "Ab"  # type: ignore[union-attr]  # it is a message
    assert told.end(USAGE, 1).response.output == [done.item]  # type: ignore[union-attr]
