"""What a request may say: each parameter's range, type and default. What is not honoured is the ledger's."""

import json
import tracemalloc
from typing import Any

import orjson
import pytest

from gateway.errors import (
    InvalidJSON,
    InvalidValue,
    MissingParameter,
    RequestError,
    UnknownParameter,
)
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.parts import TextPart
from gateway.schema.validation import parse
from tests.each import each

USER = {"role": "user", "content": "x"}
REQUEST = {"model": "m", "messages": [USER]}

# parameter: values at the edges of what is allowed, values just beyond
RANGES: dict[str, tuple[list[Any], list[Any]]] = {
    "n": ([1, 16], [0, 17, -1]),
    "max_tokens": ([1, 10**9], [0, -1]),
    "max_completion_tokens": ([1, 10**9], [0, -1]),
    "temperature": ([0, 0.0, 2, 2.0], [-0.001, 2.001]),
    "top_p": ([0, 0.001, 1, 1.0], [-0.1, 1.001]),
    "presence_penalty": ([-2, 2.0], [-2.001, 2.001]),
    "frequency_penalty": ([-2, 2.0], [-2.001, 2.001]),
    "top_logprobs": ([0, 20], [-1, 21]),
    "seed": ([-(2**63), 0, 2**63 - 1], [2**63, -(2**63) - 1]),
    "top_k": ([-1, 0, 10**6], [-2]),
    "min_p": ([0, 1], [-0.001, 1.001]),
    "repetition_penalty": ([0.001, 2], [0, 2.001]),
    "min_tokens": ([0, 10], [-1]),
    "stop": (["a", [], ["a"], ["a"] * 16], [["a"] * 17, ["a", 5], {}]),
    "stop_token_ids": ([[], [0, 5], [1] * 64], [[-1], [1] * 65, 5, ["5"]]),
    "logit_bias": (
        [{}, {"5": -100, "6": 100.0}, {str(token): 1 for token in range(300)}],
        [{"5": -100.1}, {"5": 101}, {"5": "1"}, [], {str(token): 1 for token in range(301)}],
    ),
    "image_fit": (["pad", "crop", "squash"], ["stretch", "", 1]),
    "image_place": (["auto", "asked"], ["first", 1]),
    "image_history": (["keep_last", "strict"], ["last", 1]),
    "logprobs": ([True, False], []),
    "ignore_eos": ([True, False], []),
    "continue_final_message": ([True, False], []),
    "add_generation_prompt": ([True], []),
    "stream": ([True, False], []),
}
NUMBERS = sorted(name for name, (good, _) in RANGES.items() if type(good[0]) in (int, float))
SWITCHES = ["logprobs", "ignore_eos", "stream", "continue_final_message", "add_generation_prompt"]
WHOLE_NUMBERS = [
    "n",
    "max_tokens",
    "max_completion_tokens",
    "top_logprobs",
    "seed",
    "top_k",
    "min_tokens",
]


# Those with files of their own: test_formats.py and test_tools.py.
FORMS = {
    *("response_format", "structured_outputs"),
    *("tools", "tool_choice", "parallel_tool_calls"),
}


def asked(**fields: Any) -> ChatCompletionRequest:
    return parse(json.dumps({**REQUEST, **fields}).encode(), ChatCompletionRequest)


def refused(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    return caught.value


def test_every_parameter_has_its_range_here() -> None:
    fields = set(ChatCompletionRequest.model_fields)
    assert fields == {*RANGES, "model", "messages", "stream_options", *FORMS}


@each(("name", "value"), [(name, v) for name, (good, _) in RANGES.items() for v in good])
def test_values_at_the_edge_are_taken(name: str, value: Any) -> None:
    assert getattr(asked(**{name: value}), name) == ([value] if value == "a" else value)


@each(("name", "value"), [(name, v) for name, (_, bad) in RANGES.items() for v in bad])
def test_values_beyond_the_edge_are_refused_by_name(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert type(error) is InvalidValue
    assert error.param is not None
    assert error.param.partition("[")[0].partition(".")[0] == name
    assert error.message.startswith(f"{error.param}: ")


@each("name", NUMBERS)
@each("value", ["1", True, False, [], {}, [1]])
def test_numbers_are_numbers(name: str, value: Any) -> None:
    assert refused(**{name: value}).param == name


@each("name", WHOLE_NUMBERS)
@each("value", [1.0, 1.5])
def test_whole_numbers_are_whole(name: str, value: Any) -> None:
    assert refused(**{name: value}).param == name


@each("name", SWITCHES)
@each("value", [0, 1, "true", "false", 1.0, [], {}])
def test_switches_are_true_or_false(name: str, value: Any) -> None:
    assert refused(**{name: value}).param == name


@each("name", sorted({*RANGES, "stream_options"}))
def test_null_is_as_good_as_absent(name: str) -> None:
    assert asked(**{name: None}) == asked()


@each("option", ["include_usage", "include_timing", "continuous_usage_stats"])
def test_stream_options_are_switches_of_a_stream(option: str) -> None:
    assert getattr(asked(stream=True, stream_options={option: True}).stream_options, option) is True
    assert refused(stream_options={option: True}).param == "stream_options"
    assert refused(stream=False, stream_options={option: True}).param == "stream_options"
    assert refused(stream=True, stream_options={option: 1}).param == f"stream_options.{option}"


def test_unknown_stream_option_is_refused_by_name() -> None:
    error = refused(stream=True, stream_options={"speed": 1})
    assert (type(error), error.param) == (UnknownParameter, "stream_options.speed")


@each(
    ("fields", "message"),
    [
        ({"temperature": 2.5}, "temperature: input should be less than or equal to 2; got 2.5"),
        ({"n": "5"}, 'n: input should be a valid integer; got "5"'),
        ({"logprobs": 1}, "logprobs: input should be a valid boolean; got 1"),
        ({"model": 5}, "model: input should be a valid string; got 5"),
        (
            {"seed": 2**64 - 1},
            f"seed: it must be from {-(2**63)} to {2**63 - 1}; got {2**64 - 1}",
        ),
        ({"stop": {"a": 1}}, "stop: input should be a valid list; got an object with 1 field"),
        ({"messages": [USER, 5]}, "messages[1]: input should be an object; got 5"),
        (
            {"messages": []},
            "messages: must have at least 1; got an array of 0",
        ),
        ({"image_fit": "fill"}, "image_fit: input should be 'pad', 'crop' or 'squash'; got \"fill\""),
        ({"color": 1}, "color: there is no such parameter"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            (
                "messages[0].content[0].type: a part must be `text`, `input_text`, `output_text`, `refusal`, "
                '`image_url`, `input_image`, `image`, `file` or `resource`; got "video"'
            ),
        ),
        (
            {"messages": [{"role": "user", "content": ["x"]}]},
            'messages[0].content[0]: a part must be an object; got "x"',
        ),
    ],
)
def test_messages_name_the_field_the_limit_and_what_came(fields: dict[str, Any], message: str) -> None:
    assert refused(**fields).message == message


def test_missing_field_is_named() -> None:
    with pytest.raises(MissingParameter) as caught:
        parse(b'{"model": "m"}', ChatCompletionRequest)
    assert caught.value.message == "messages: this field is required"


LONG = "y" * 100_000


@each(
    "fields",
    [
        {"temperature": LONG},
        {"stop": [LONG, 5]},
        {"messages": LONG},
        {"messages": [{"role": LONG, "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": LONG}]}]},
        {"n": [LONG]},
        {"n": {LONG: LONG}},
        {LONG: 1},
        {"stream": True, "stream_options": {LONG: 1}},
        {"logit_bias": {LONG: "1"}},
        {"model": {"a": [[[]]] * 1000}},
    ],
)
def test_large_values_are_not_sent_back(fields: dict[str, Any]) -> None:
    error = refused(**fields)
    assert len(error.message) < 400
    assert len(error.param or "") < 100


def test_values_nested_deeply_are_refused() -> None:
    with pytest.raises(InvalidJSON):
        parse(b'{"messages": [], "model": ' + b"[" * 1000 + b"]" * 1000 + b"}", ChatCompletionRequest)


def test_integers_of_any_length_are_refused_by_name() -> None:
    for digits in (20, 3000):
        body = b'{"model": "m", "messages": [{"role": "user"}], "n": ' + b"9" * digits + b"}"
        with pytest.raises(InvalidValue) as caught:
            parse(body, ChatCompletionRequest)
        assert caught.value.param == "n"
        assert caught.value.message.endswith("an integer of more than 64 bits")


@each(
    "body",
    [
        orjson.dumps({"model": "m", "messages": [0] * 20_000}),
        orjson.dumps({"model": "m", "messages": [{"role": "user", "content": [0] * 20_000}]}),
        orjson.dumps({**REQUEST, **{f"k{number}": 1 for number in range(10_000)}}),
        orjson.dumps({**REQUEST, "tools": [{f"k{number}": 1 for number in range(10_000)}]}),
        orjson.dumps({**REQUEST, "logit_bias": {f"k{number}": "" for number in range(10_000)}}),
        orjson.dumps({**REQUEST, "stop": [0] * 20_000}),
        orjson.dumps({**REQUEST, "stop_token_ids": ["x"] * 20_000}),
    ],
)
def test_a_body_of_many_mistakes_takes_no_memory_for_each(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidValue) as caught:
            parse(body, ChatCompletionRequest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Python's objects for such JSON take up to 25 times its size; one error for each would take 100.
    assert peak < 40 * len(body)
    assert len(caught.value.message) < 400


@each("value", [b"[]", b"{}", b"[[[0]]]", b"0"])
def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(value: bytes) -> None:
    body = b'{"model":[' + b",".join([value] * 250_000) + b"]}"
    with pytest.raises(InvalidValue, match="commas and brackets; the limit is 250000"):
        parse(body, ChatCompletionRequest)


def test_a_large_picture_has_few_values() -> None:
    url = "data:image/png;base64," + "A" * 2**20
    part = {"type": "image_url", "image_url": {"url": url}}
    assert asked(messages=[{"role": "user", "content": [part]}]).messages[0].content


@each("stop", ["", [""], ["", "a", ""]])
def test_empty_stop_strings_ask_for_nothing(stop: Any) -> None:
    assert asked(stop=stop).stop == [each for each in stop if each]


def test_text_as_content_is_one_text_part() -> None:
    assert asked().messages[0].content == [TextPart(type="text", text="x")]
