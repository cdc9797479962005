"""Tools: what the prompt tells of them, what is left out, and words and calls in an answer."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidValue
from gateway.generation import tool_offer, tools
from gateway.generation.calls import CallReader
from gateway.generation.history import Fitted
from gateway.generation.request import (
    GenerationRequest,
    InputImage,
    InputMessage,
    Tool,
    ToolCall,
    ToolChoice,
)
from gateway.schema.chat_answer import CallPiece
from gateway.settings import Settings
from tests.scripted_engine import MODEL

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("get_weather", "Get the  weather.", CITY, "tools[0].function")
CLOCK = Tool("clock", "", tools.NO_ARGUMENTS, "tools[1].function")
ASKED = InputMessage("user", ("What is the weather?",), "messages[0]")
SEEN = InputMessage("user", (InputImage("data:", "messages[0].content[0]"), "What is it?"), "messages[0]")


def request(*messages: InputMessage, mode: Any = "auto", **fields: Any) -> GenerationRequest:
    return GenerationRequest(
        "id",
        "m",
        messages or (ASKED,),
        "caller",
        tools=fields.pop("tools", (WEATHER, CLOCK)),
        tool_choice=ToolChoice(mode, fields.pop("names", None)),
        **fields,
    )


def decided(asked: GenerationRequest, most: int = 1024, **chosen: Any) -> tuple[tools.Offer | None, int]:
    fitted = Fitted(asked.messages, [1] * 20, 0)
    return tool_offer.decide(asked, fitted, MODEL, Settings.model_validate(chosen), most)


def test_the_prompt_tells_of_each_tool_on_a_line() -> None:
    offer, dropped = decided(request())
    assert offer is not None
    assert offer.text.splitlines()[1:] == ['@get_weather {"city":"string"}: Get the weather.', "@clock {}"]
    assert (offer.names, offer.described, dropped) == (("get_weather", "clock"), 2, 0)


def test_optional_arguments_are_told() -> None:
    schema = {"properties": {"a": {"type": "string", "title": "A", "enum": ["x"]}, "b": {"type": "integer"}}}
    offer, _ = decided(request(tools=(Tool("f", "", {**schema, "required": ["b"]}, "p"),)))
    assert offer is not None
    assert offer.text.endswith('@f {"a":{"type":"string","enum":["x"]},"b":"integer"} (optional: a)')


def test_tools_without_room_are_left_out_where_the_answer_may_be_text() -> None:
    offer, dropped = decided(request(), most=len(tools._MAY) + 20)
    assert offer is not None
    assert (offer.names, dropped) == (("clock",), 1)
    assert decided(request(), most=10) == (None, 2)


def test_tools_without_room_can_be_called_where_there_must_be_a_call() -> None:
    offer, dropped = decided(request(mode="required"), most=10)
    assert offer is not None
    assert (offer.names, offer.described, dropped) == (("get_weather", "clock"), 0, 2)


def test_only_allowed_tools_are_offered() -> None:
    offer, dropped = decided(request(mode="required", names=frozenset({"clock"})))
    assert offer is not None
    assert (offer.names, dropped) == (("clock",), 0)
    assert decided(request(mode="none")) == (None, 0)


@pytest.mark.parametrize(
    ("asked", "policy", "offered"),
    [
        (request(SEEN), "without_images", False),
        (request(SEEN), "always", True),
        (request(SEEN, mode="required"), "never", True),
        (request(ASKED), "without_images", True),
        (request(ASKED), "never", False),
        (request(ASKED, sampling={"ignore_eos": True}), "always", False),
        (request(ASKED, continued=True), "always", False),
    ],
)
def test_when_tools_are_offered(asked: GenerationRequest, policy: str, offered: bool) -> None:  # a table
    offer, dropped = decided(asked, auto_tools=policy)
    assert (offer is not None, dropped) == (offered, 0 if offered else 2)


def test_a_schema_that_is_not_supported_costs_the_tool_or_the_request() -> None:
    bad = Tool("bad", "", {"properties": {"a": {"uniqueItems": True}}}, "tools[2].function")
    offer, dropped = decided(request(tools=(CLOCK, bad)))
    assert offer is not None
    assert (offer.names, dropped) == (("clock",), 1)
    with pytest.raises(InvalidValue) as caught:
        decided(request(tools=(CLOCK, bad), mode="required"))
    assert caught.value.param == "tools[2].function.parameters.properties.a.uniqueItems"


def test_what_cannot_be_beside_a_required_call_is_refused() -> None:
    with pytest.raises(InvalidValue) as caught:
        decided(request(mode="required", continued=True))
    assert caught.value.param == "tool_choice"
    assert "add a user message" in caught.value.message


def test_calls_and_results_of_earlier_turns_are_lines_of_text() -> None:
    call = ToolCall("c1", "get_weather", '{"city": "Paris"}')
    messages = (
        ASKED,
        InputMessage("assistant", ("I look.",), "messages[1]", (call,)),
        InputMessage("tool", ("12 degrees",), "messages[2]", tool_call_id="c1"),
        InputMessage("tool", ("?",), "messages[3]", tool_call_id="c2"),
    )
    assert [(message.role, message.parts) for message in tools.as_text(messages)[1:]] == [
        ("assistant", ("I look.", '@get_weather {"city": "Paris"}')),
        ("user", ("Result of get_weather:", "12 degrees")),
        ("user", ("Result:", "?")),
    ]


def test_the_offer_ends_the_systems_text() -> None:
    offer, _ = decided(request())
    assert offer is not None
    system = InputMessage("system", ("Be brief.",), "messages[0]")
    assert [message.parts for message in tool_offer.add_offer((system, ASKED), offer, "Default.")] == [
        ("Be brief.",),
        (offer.text,),
        ASKED.parts,
    ]
    assert tool_offer.add_offer((ASKED,), offer, "Default.")[0].parts == ("Default.", offer.text)


def read(*pieces: str, names: tuple[str, ...] = ("f", "get_x")) -> tuple[str, list[tuple[str, str]], bool]:
    """Return the words, the calls, and whether the answer is calls that are whole."""
    reader = CallReader(names)
    words, calls = "", {}
    for piece in (found for text in pieces for found in reader.read(text)):
        if isinstance(piece, str):
            words += piece
        elif piece.name is not None:
            assert piece.id
            assert piece.arguments == ""
            calls[piece.index] = (piece.name, "")
        else:
            calls[piece.index] = (calls[piece.index][0], calls[piece.index][1] + piece.arguments)
    return words + reader.close(), list(calls.values()), reader.called


@pytest.mark.parametrize(
    ("text", "words", "calls", "whole"),
    [
        ("Hello.", "Hello.", [], False),
        ("", "", [], False),
        ("@f {}", "", [("f", "{}")], True),
        ('@f {"a": "}\\"{"}', "", [("f", '{"a": "}\\"{"}')], True),
        (
            '@f {"a": [{"b": 1}]}\n@get_x {"c": 2}',
            "",
            [("f", '{"a": [{"b": 1}]}'), ("get_x", '{"c": 2}')],
            True,
        ),
        ('@f {"a": "x', "", [("f", '{"a": "x')], False),
        ("@f", "@f", [], False),
        ("@fx {}", "@fx {}", [], False),
        ("@g {}", "@g {}", [], False),
        ("See @f {}", "See @f {}", [], False),
        ("@f {}\n@f", "", [("f", "{}")], True),
    ],
)
def test_words_and_calls_are_told_apart(
    text: str,
    words: str,
    calls: list[tuple[str, str]],
    whole: bool,  # a table
) -> None:
    assert read(text) == (words, calls, whole)


VALUES = st.recursive(
    st.text('{}[]"\\@\n ab', max_size=8) | st.integers(0, 9), lambda inner: st.lists(inner, max_size=3)
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["f", "get_x"]), st.dictionaries(st.text(max_size=4), VALUES, max_size=4)),
    max_size=4,
)


@settings(deadline=None)
@given(CALLS, st.data())
def test_it_does_not_matter_how_an_answer_is_cut(
    calls: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    told = [(name, orjson.dumps(arguments).decode()) for name, arguments in calls]
    text = "\n".join(f"@{name} {arguments}" for name, arguments in told)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(*pieces) == ("", told, bool(told))


def test_a_piece_that_ends_one_call_begins_the_next() -> None:
    reader = CallReader(["f"])
    list(reader.read("@f {"))
    first, second, third = reader.read("}\n@f {")
    assert first == CallPiece(0, "}")
    assert isinstance(second, CallPiece)
    assert (second.index, second.name) == (1, "f")
    assert third == CallPiece(1, "{")
