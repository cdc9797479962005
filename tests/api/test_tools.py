"""Tools and forms of answers on the wire, with a scripted engine behind it."""

from typing import Any

import orjson

from tests.api.asking import ask, chat, events, image, saying, text
from tests.each import each
from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway
from tests.shapes import data_url

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather.", "parameters": CITY},
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
CALL = (" @get", '_weather {"ci', 'ty": "Pa', 'ris"}')


async def test_a_call_is_told_whole() -> None:
    async with scripted_gateway(ScriptedEngine(CALL)) as gateway:
        answer = await ask(gateway, chat(tools=[WEATHER], tool_choice="required"))
    choice = orjson.loads(answer.body)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call.pop("id").startswith("call_")
    assert call == {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}


async def test_a_call_is_streamed_as_openai_does() -> None:
    async with scripted_gateway(ScriptedEngine(CALL)) as gateway:
        *found, done = await events(gateway, tools=[WEATHER])
    assert done == b"[DONE]"
    choices = [orjson.loads(event)["choices"][0] for event in found]
    assert choices[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    (first, begun), *more = (choice["delta"]["tool_calls"] for choice in choices[1:-1])
    assert first.pop("id").startswith("call_")
    assert first == {"index": 0, "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    arguments = [begun, *(piece for pieces in more for piece in pieces)]
    assert all(piece.keys() == {"index", "function"} for piece in arguments)
    assert [piece["function"]["arguments"] for piece in arguments] == ['{"ci', 'ty": "Pa', 'ris"}']
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, None, "tool_calls"]
    assert choices[-1]["delta"] == {}


async def test_a_call_that_is_cut_says_so() -> None:
    async with scripted_gateway(ScriptedEngine(CALL)) as gateway:
        answer = await ask(gateway, chat(tools=[WEATHER], tool_choice=NAMED, max_tokens=3))
    choice = orjson.loads(answer.body)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Pa'


async def test_an_answer_in_words_is_what_it_would_be_without_tools() -> None:
    async with scripted_gateway(ScriptedEngine((" @home", " is", " best."))) as gateway:
        answer = await ask(gateway, chat(tools=[WEATHER]))
    choice = orjson.loads(answer.body)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("@home is best.", "stop")
    assert "tool_calls" not in choice["message"]


async def test_a_question_about_a_picture_is_answered_as_if_no_tools_came() -> None:
    engine = ScriptedEngine()
    messages = saying(image(data_url("star", "red")), text("What is it?"))
    async with scripted_gateway(engine) as gateway:
        plain = await ask(gateway, chat(messages=messages))
        answer = await ask(gateway, chat(messages=messages, tools=[WEATHER]))
    assert engine.jobs[0].token_ids == engine.jobs[1].token_ids
    assert engine.jobs[1].sampling.constraint is None
    assert "x-gateway-dropped-tools" not in plain.headers
    assert answer.headers["x-gateway-dropped-tools"] == "1"


async def test_more_tools_than_fit_keep_nobody_from_an_answer() -> None:
    many = [
        {
            "type": "function",
            "function": {"name": f"tool_{number}", "description": "x" * 300, "parameters": CITY},
        }
        for number in range(36)
    ]
    async with scripted_gateway(ScriptedEngine()) as gateway:
        answer = await ask(gateway, chat(tools=many))
    assert orjson.loads(answer.body)["choices"][0]["message"]["content"] == "A red circle."
    assert 30 < int(answer.headers["x-gateway-dropped-tools"]) < 36


async def test_a_tool_that_the_engine_cannot_keep_to_is_left_out_or_refused() -> None:
    unfit = {"type": "function", "function": {"name": "unfit"}}
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, chat(tools=[WEATHER, unfit]))
        refused = await ask(gateway, chat(tools=[WEATHER, unfit], tool_choice="required"))
    assert answer.headers["x-gateway-dropped-tools"] == "2"
    assert engine.jobs[0].sampling.constraint is None
    assert (refused.status, orjson.loads(refused.body)["error"]["param"]) == (400, "tools")


async def test_a_turn_with_a_tool_is_part_of_the_prompt() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    messages = [
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "</s>12 degrees"},
    ]
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        await ask(gateway, chat(messages=messages, tools=[WEATHER], tool_choice="none"))
    (job,) = engine.jobs
    assert job.token_ids.count(2) == 1  # the end of the assistant's turn; the one in the result is text
    before, after = (job.token_ids[1 : job.token_ids.index(2)], job.token_ids[job.token_ids.index(2) + 1 :])
    assert bytes(token - 3 for token in before).decode() == (
        'USER: Is it warm?\nASSISTANT: @get_weather {"city": "Paris"}'
    )
    assert bytes(token - 3 for token in after).decode() == (
        "USER: Result of get_weather:\n</s>12 degrees\nASSISTANT:"
    )


async def test_a_form_is_checked_before_a_picture_is_fetched() -> None:
    engine = ScriptedEngine()
    messages = saying(image("http://127.0.0.1:9/never.png"), text("What is it?"))
    form = {"regex": "unfit"}
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, chat(messages=messages, structured_outputs=form, stream=True))
    error = orjson.loads(answer.body)["error"]
    assert (answer.status, error["param"], error["code"]) == (
        400,
        "structured_outputs.regex",
        "invalid_value",
    )


@each(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice.function.name",
        ),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "auto",
                        "tools": [{"type": "function", "function": {"name": "f"}}],
                    },
                },
            },
            "tool_choice.allowed_tools.tools[0].function.name",
        ),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": NAMED, "response_format": {"type": "json_object"}},
            "tool_choice",
        ),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(
    served: Any, fields: dict[str, Any], param: str
) -> None:
    answer = await ask(served, chat(**fields))
    assert (answer.status, orjson.loads(answer.body)["error"]["param"]) == (400, param)
