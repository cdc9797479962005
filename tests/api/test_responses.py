"""`POST /v1/responses`: the response, the events of a stream, and what a request may hold."""

from typing import Any

import openai
import orjson
import pytest
from pydantic import BaseModel

from gateway.errors import GenerationFailed
from tests import openai_types
from tests.api.asking import MODEL, idle, sdk, send
from tests.api.wire import Answer
from tests.each import each
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway
from tests.shapes import data_url

TEXT_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "What is it?", **fields}


async def ask(gateway: Gateway, **fields: Any) -> Answer:
    return await send(gateway, "POST", "/v1/responses", json=asked(**fields))


async def streamed(gateway: Gateway, **fields: Any) -> list[Any]:
    answer = await ask(gateway, stream=True, **fields)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return openai_types.events(answer.body)


def prompt_of(engine: ScriptedEngine) -> str:
    """Return the last job's prompt, `<image>` where a picture stands."""
    ids = engine.jobs[-1].token_ids[1:]
    pieces = [{2: b"</s>", 1000: b"<image>"}.get(token) or bytes([token - 3]) for token in ids]
    return b"".join(pieces).decode()


async def test_response_is_openais_to_the_letter(served: Gateway) -> None:
    answer = await ask(served)
    found = openai_types.response(answer.body)
    assert (found.status, found.output_text, found.model) == ("completed", "A red circle.", MODEL)
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (29, 3, 32)
    assert found.id.startswith("resp_")
    assert found.output[0].id.startswith("msg_")  # type: ignore[union-attr]  # it is a message
    assert found.completed_at is not None
    assert found.completed_at >= found.created_at


async def test_events_come_in_openais_order(served: Gateway) -> None:
    events = await streamed(served)
    assert [event.type for event in events] == TEXT_EVENTS
    assert [event.delta for event in events[4:7]] == ["A", " red", " circle."]
    (message,) = events[-1].response.output
    assert events[2].item.id == message.id
    assert {event.item_id for event in events[3:9]} == {message.id}
    assert {(event.output_index, event.content_index) for event in events[3:9]} == {(0, 0)}
    assert events[2].item.content == []
    assert events[3].part.text == ""
    assert events[7].text == events[8].part.text == message.content[0].text == "A red circle."
    assert events[9].item == message
    assert [events[at].response.status for at in (0, 1, -1)] == ["in_progress", "in_progress", "completed"]
    assert [events[at].response.usage is None for at in (0, 1, -1)] == [True, True, False]


async def test_stream_ends_without_done(served: Gateway) -> None:
    assert b"[DONE]" not in (await ask(served, stream=True)).body


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_output_tokens": 2},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"instructions": "Be brief.", "metadata": {"a": "b"}, "user": "u", "truncation": "auto"},
    ],
)
async def test_whole_response_is_the_one_at_the_end_of_a_stream(
    served: Gateway, fields: dict[str, Any]
) -> None:
    whole = orjson.loads((await ask(served, **fields)).body)
    last = orjson.loads((await ask(served, stream=True, **fields)).body.split(b"data: ")[-1])["response"]
    for response in (whole, last):
        for name in ("id", "created_at", "completed_at"):
            del response[name]
        for item in response["output"]:
            del item["id"]
    assert whole == last


async def test_answer_that_was_cut_is_incomplete(served: Gateway) -> None:
    events = await streamed(served, max_output_tokens=2)
    assert [event.type for event in events[-2:]] == ["response.output_item.done", "response.incomplete"]
    assert events[-2].item.status == "incomplete"
    response = events[-1].response
    assert (response.status, response.output_text) == ("incomplete", "A red")
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.completed_at is None
    assert openai_types.response((await ask(served, max_output_tokens=2)).body).status == "incomplete"


async def test_answer_without_words_is_an_empty_message() -> None:
    async with scripted_gateway(ScriptedEngine((" ",))) as gateway:
        events = await streamed(gateway)
    assert [event.type for event in events] == [*TEXT_EVENTS[:4], *TEXT_EVENTS[7:]]
    assert events[-1].response.output_text == ""
    assert events[-1].response.output[0].content[0].text == ""


async def test_log_probabilities_are_told_with_the_words_where_included(served: Gateway) -> None:
    events = await streamed(served, include=["message.output_text.logprobs"], top_logprobs=2)
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert [[entry.token for entry in event.logprobs] for event in deltas] == [[" A"], [" red"], [" circle."]]
    assert [entry.logprob for entry in deltas[0].logprobs[0].top_logprobs] == [-0.5, -1.5]
    told = events[-1].response.output[0].content[0].logprobs
    assert [entry.token for entry in told] == [" A", " red", " circle."]
    assert told[0].bytes == list(b" A")
    assert [
        event.logprobs for event in await streamed(served) if event.type == "response.output_text.delta"
    ] == [
        [],
        [],
        [],
    ]


async def test_top_logprobs_need_the_log_probabilities(served: Gateway) -> None:
    answer = await ask(served, top_logprobs=2)
    assert (answer.status, answer.error["param"]) == (400, "top_logprobs")
    assert answer.error["message"].endswith("it needs 'message.output_text.logprobs' in `include`")
    assert (await ask(served, top_logprobs=0)).status == 200


async def test_the_sdk_puts_the_stream_together(served: Gateway) -> None:
    async with sdk(served) as client, client.responses.stream(**asked()) as stream:
        final = await stream.get_final_response()
    assert final.output_text == "A red circle."


async def test_engine_error_after_the_first_word_is_an_error_and_a_failed_response() -> None:
    engine = ScriptedEngine(error=GenerationFailed("it died"), fails_at=2)
    async with scripted_gateway(engine) as gateway:
        *said, error, failed = await streamed(gateway)
        await idle(gateway)
    assert [event.type for event in said] == TEXT_EVENTS[:6]
    assert (error.type, error.code, error.message) == ("error", "generation_failed", "it died")
    assert failed.type == "response.failed"
    assert failed.response.status == "failed"
    assert (failed.response.error.code, failed.response.error.message) == ("server_error", "it died")


async def test_engine_error_in_a_stream_is_the_sdks_api_error() -> None:
    engine = ScriptedEngine(error=GenerationFailed("it died"), fails_at=1)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        stream = await client.responses.create(**asked(stream=True))
        with pytest.raises(openai.APIError, match="it died"):
            async for _ in stream:
                pass


async def test_engine_error_before_the_first_word_is_a_status() -> None:
    engine = ScriptedEngine(error=GenerationFailed("it died"), fails_at=0)
    async with scripted_gateway(engine) as gateway:
        for stream in (False, True):
            answer = await ask(gateway, stream=stream)
            assert (answer.status, answer.error["code"]) == (500, "generation_failed")


async def test_items_become_the_prompt_in_their_order() -> None:
    engine = ScriptedEngine()
    items = [
        {"role": "developer", "content": "Answer in one word."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "final_answer",
            "content": [{"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "x"},
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": data_url("star", "red"), "detail": "auto"},
                {"type": "input_text", "text": "What is it?"},
            ],
        },
    ]
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, input=items, instructions="Be kind.")
    assert answer.status == 200, answer.body
    assert prompt_of(engine) == (
        "Be kind.\nAnswer in one word.\nUSER: Hello\nASSISTANT: Hi.</s>USER: <image>\nWhat is it?\nASSISTANT:"
    )
    assert len(engine.jobs[0].pictures) == 1


async def test_answer_may_be_sent_back_as_the_sdk_has_it(served: Gateway) -> None:
    async with sdk(served) as client:
        first = await client.responses.create(**asked())
        question = {"role": "user", "content": "And now?"}
        again = await client.responses.create(**asked(input=[question, *first.output, question]))
        assert again.output_text == "A red circle."
        dumped = [item.model_dump() for item in first.output]
        again = await client.responses.create(**asked(input=[question, *dumped, question]))
    assert again.output_text == "A red circle."


async def test_parameters_reach_the_engine() -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        await ask(gateway, temperature=0.5, top_p=0.25, max_output_tokens=7, seed=3, top_k=4, stop="x")
    sampling = engine.jobs[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.5, 0.25, 7)
    assert (sampling.seed, sampling.top_k, sampling.stop, sampling.n) == (3, 4, ("x",), 1)


async def test_what_was_asked_is_told_again(served: Gateway) -> None:
    fields = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "metadata": {"place": "here"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "temperature": 0.5,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
    }
    response = orjson.loads((await ask(served, **fields)).body)
    assert {name: response[name] for name in fields} == fields


WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    "strict": True,
}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": []}, "invalid_value", "input"),
    ({"input": 5}, "invalid_value", "input"),
    ({"input": [5]}, "invalid_value", "input[0]"),
    ({"input": [{}]}, "missing_required_parameter", "input[0].type"),
    ({"input": [{"type": "reasoning", "id": "rs_1"}]}, "invalid_value", "input"),
    ({"input": [{"type": "computer_call"}]}, "unsupported_parameter", "input[0].type"),
    ({"input": [{"role": "king", "content": "x"}]}, "invalid_value", "input[0].role"),
    ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
    ({"input": [{"role": "user", "content": "x", "image": "x"}]}, "unknown_parameter", "input[0].image"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "unsupported_parameter",
        "input[0].content[0].type",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}]},
        "invalid_image",
        "input[0].content[0].image_url",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "invalid_value",
        "input[0].content[0]",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        "invalid_value",
        "input[0].content[0]",
    ),
    ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name"),
    ({"tools": [WEATHER, WEATHER]}, "invalid_value", "tools[1].name"),
    ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}},
        "invalid_value",
        "tool_choice.name",
    ),
    ({"tool_choice": "always"}, "invalid_value", "tool_choice"),
    ({"tool_choice": {"type": "file_search"}}, "unsupported_parameter", "tool_choice.type"),
    ({"text": {"format": {"type": "xml"}}}, "unsupported_parameter", "text.format.type"),
    ({"text": {"format": {"type": "json_schema"}}}, "missing_required_parameter", "text.format.name"),
    ({"background": True}, "unsupported_parameter", "background"),
    ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
    ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
    ({"context_management": [{"type": "compaction"}]}, "unsupported_parameter", "context_management"),
    ({"moderation": {"model": "m"}}, "unsupported_parameter", "moderation"),
    ({"include": ["everything"]}, "invalid_value", "include[0]"),
    ({"metadata": {"a": 1}}, "invalid_value", "metadata.a"),
    ({"metadata": {str(number): "" for number in range(17)}}, "invalid_value", "metadata"),
    ({"truncation": "middle"}, "invalid_value", "truncation"),
    ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
    ({"temperature": 3}, "invalid_value", "temperature"),
    ({"stream_options": {}}, "invalid_value", "stream_options"),
    ({"messages": []}, "unknown_parameter", "messages"),
    ({"n": 2}, "unknown_parameter", "n"),
    ({"model": "other"}, "model_not_found", "model"),
    ({"input": [{"role": "assistant", "content": "x"}], "instructions": "y"}, "invalid_value", "input[0]"),
    (
        {
            "input": [
                {"role": "user", "content": "x"},
                {
                    "role": "system",
                    "content": [{"type": "input_image", "image_url": "http://x.org/"}],
                },
            ],
            "instructions": "y",
        },
        "invalid_value",
        "input[1].content[0]",
    ),
    ({"input": "x" * 3000}, "context_length_exceeded", "input"),
]


@each(("fields", "code", "param"), REFUSED)
async def test_what_cannot_be_done_is_refused_by_name(
    served: Gateway, fields: dict[str, Any], code: str, param: str
) -> None:
    answer = await ask(served, **fields)
    assert answer.status == (404 if code == "model_not_found" else 400)
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert f"{param}: " in answer.error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"background": False, "conversation": None, "context_management": []},
        {"reasoning": {"effort": "low", "summary": "auto"}, "text": {"verbosity": "low"}},
        {"service_tier": "auto", "max_tool_calls": 3, "prompt_cache_retention": "24h"},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"include": ["reasoning.encrypted_content"]},
        {"text": {"format": {"type": "text"}}, "tools": [], "tool_choice": "auto"},
        {"previous_response_id": None, "prompt": None, "metadata": None},
    ],
)
async def test_what_asks_for_nothing_else_is_taken(served: Gateway, fields: dict[str, Any]) -> None:
    assert (await ask(served, **fields)).status == 200


TURNS = [
    {"role": role, "content": word * 200} for word in "abcdefgh" for role in ("user", "assistant")
]  # longer than the context of 2048 tokens


async def test_truncation_auto_leaves_out_the_oldest_turns() -> None:
    engine = ScriptedEngine()
    items = [{"role": "system", "content": "S"}, *TURNS, {"role": "user", "content": "What is it?"}]
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, input=items, truncation="auto")
        assert answer.status == 200, answer.body
    dropped = int(answer.headers["x-gateway-dropped-messages"])
    assert 0 < dropped < len(TURNS)
    kept = "".join(turn["content"] for turn in TURNS[dropped:])
    said = prompt_of(engine)
    assert said.startswith("S\nUSER: ")
    assert kept == "".join(letter for letter in said if letter in "abcdefgh")[: len(kept)]
    assert said.endswith("USER: What is it?\nASSISTANT:")


async def test_a_conversation_that_is_too_long_is_refused_otherwise(served: Gateway) -> None:
    items = [*TURNS, {"role": "user", "content": "What is it?"}]
    for truncation in (None, "disabled"):
        answer = await ask(served, input=items, truncation=truncation)
        assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
        assert answer.error["param"] == "input"


async def test_truncation_decides_about_the_images_that_are_too_many(served: Gateway) -> None:
    picture = {"type": "input_image", "image_url": data_url("star", "red", side=8)}
    items = [{"role": "user", "content": [picture]} for _ in range(8)]
    answer = await ask(served, input=items, truncation="disabled")
    assert (answer.status, answer.error["code"]) == (400, "too_many_images")
    assert answer.error["param"] == "input"
    for fields in ({"truncation": "auto"}, {}, {"truncation": "disabled", "image_history": "keep_last"}):
        answer = await ask(served, input=items, **fields)
        assert (answer.status, answer.headers["x-gateway-dropped-images"]) == (200, "1")


async def test_a_reply_is_continued() -> None:
    engine = ScriptedEngine((" circle.",))
    items = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A red"}]
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, input=items, continue_final_message=True)
    assert prompt_of(engine) == "USER: What is it?\nASSISTANT: A red"
    assert openai_types.response(answer.body).output_text == " circle."


async def test_images_stand_where_they_were_put_where_it_is_asked_for() -> None:
    engine = ScriptedEngine()
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": data_url("star", "red", side=8)},
    ]
    async with scripted_gateway(engine) as gateway:
        for place, prompt in (("auto", "<image>\nWhat is it?"), ("asked", "What is it?\n<image>")):
            await ask(gateway, input=[{"role": "user", "content": parts}], image_place=place)
            assert prompt_of(engine) == f"USER: {prompt}\nASSISTANT:"


SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "name": "n", "schema": SCHEMA},
            {"type": "json_schema", "name": "n", "schema": SCHEMA, "description": None, "strict": False},
        ),
        (
            {"type": "json_schema", "name": "n", "schema": SCHEMA, "description": "d", "strict": True},
            {"type": "json_schema", "name": "n", "schema": SCHEMA, "description": "d", "strict": True},
        ),
    ],
)
async def test_answer_is_held_to_the_form_that_is_asked_for(
    chosen: dict[str, Any], told: dict[str, Any]
) -> None:
    engine = ScriptedEngine((' {"colour":', ' "red"}'))
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, text={"format": chosen})
    constraint = engine.jobs[0].sampling.constraint
    assert constraint is not None
    assert "%json" in constraint.grammar
    assert ("colour" in constraint.grammar) == ("schema" in chosen)
    response = openai_types.response(answer.body)
    assert response.output_text == '{"colour": "red"}'
    assert orjson.loads(answer.body)["text"]["format"] == told


async def test_schema_that_the_engine_cannot_take_is_refused_by_name(served: Gateway) -> None:
    for schema, param in (
        ({"description": "unfit"}, "text.format.schema"),
        ({"type": "array", "uniqueItems": True}, "text.format.schema.uniqueItems"),
    ):
        chosen = {"type": "json_schema", "name": "n", "schema": schema}
        answer = await ask(served, stream=True, text={"format": chosen})
        assert (answer.status, answer.error["param"]) == (400, param)


async def test_the_sdk_parses_the_answer_into_its_model() -> None:
    class Shape(BaseModel):
        colour: str

    async with (
        scripted_gateway(ScriptedEngine((' {"colour":', ' "red"}'))) as gateway,
        sdk(gateway) as client,
    ):
        parsed = await client.responses.parse(**asked(text_format=Shape))
        assert parsed.output_parsed == Shape(colour="red")
        async with client.responses.stream(**asked(text_format=Shape)) as stream:
            final = await stream.get_final_response()
        assert final.output_parsed == Shape(colour="red")
        # Its items may be sent back, with what the SDK added to them.
        items = [{"role": "user", "content": "x"}, *parsed.output, {"role": "user", "content": "y"}]
        assert (await client.responses.create(**asked(input=items))).status == "completed"


CALL = (" @get_weather {", '"place": ', '"Paris"}')
CALL_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    *["response.function_call_arguments.delta"] * 3,
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.completed",
]


async def test_call_of_a_function_comes_in_openais_events() -> None:
    async with scripted_gateway(ScriptedEngine(CALL)) as gateway:
        events = await streamed(gateway, tools=[WEATHER], tool_choice="required")
        whole = openai_types.response((await ask(gateway, tools=[WEATHER])).body)
    assert [event.type for event in events] == CALL_EVENTS
    assert "".join(event.delta for event in events[3:6]) == '{"place": "Paris"}' == events[6].arguments
    (call,) = events[-1].response.output
    assert (call.type, call.name, call.arguments) == ("function_call", "get_weather", '{"place": "Paris"}')
    assert (call.status, events[2].item.status, events[2].item.arguments) == ("completed", "in_progress", "")
    assert call.call_id.startswith("call_")
    assert call.id.startswith("fc_")
    assert {event.item_id for event in events[3:7]} == {events[2].item.id} == {call.id}
    assert events[7].item == call
    assert events[-1].response.tool_choice == "required"
    assert [item.type for item in whole.output] == ["function_call"]
    assert whole.tools[0].model_dump(exclude_none=True) == WEATHER


async def test_several_calls_are_several_items() -> None:
    words = (' @get_weather {"place": "Paris"}\n', '@get_weather {"place": "Rome"}')
    async with scripted_gateway(ScriptedEngine(words)) as gateway:
        events = await streamed(gateway, tools=[WEATHER], parallel_tool_calls=True)
    assert [call.arguments for call in events[-1].response.output] == [
        '{"place": "Paris"}',
        '{"place": "Rome"}',
    ]
    added = [event for event in events if event.type == "response.output_item.added"]
    done = [event for event in events if event.type == "response.output_item.done"]
    assert [event.output_index for event in added] == [event.output_index for event in done] == [0, 1]
    assert events.index(done[0]) < events.index(added[1])


async def test_call_that_was_cut_is_incomplete() -> None:
    async with scripted_gateway(ScriptedEngine(CALL)) as gateway:
        events = await streamed(gateway, tools=[WEATHER], max_output_tokens=2)
    assert events[-1].type == "response.incomplete"
    (call,) = events[-1].response.output
    assert (call.status, call.arguments) == ("incomplete", '{"place": ')


async def test_words_instead_of_a_call_are_a_message(served: Gateway) -> None:
    events = await streamed(served, tools=[WEATHER])
    assert [event.type for event in events] == TEXT_EVENTS
    assert events[-1].response.output_text == "A red circle."


async def test_functions_round_trip_through_the_sdk_and_the_storage() -> None:
    engine = ScriptedEngine(CALL)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        first = await client.responses.create(**asked(tools=[WEATHER]))
        (call,) = first.output
        assert call.type == "function_call"
        engine.words = (" Sunny.",)
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "sun, 20 degrees"}
        question = {"role": "user", "content": "What is it?"}
        for fields in (
            {"input": [output], "previous_response_id": first.id},
            {"input": [question, *first.output, output]},
            {"input": [question, {"type": "item_reference", "id": call.id}, output]},
        ):
            second = await client.responses.create(**asked(tools=[WEATHER], **fields))
            assert second.output_text == "Sunny."
            said = prompt_of(engine)
            assert said.endswith(
                'ASSISTANT: @get_weather {"place": "Paris"}</s>'
                "USER: Result of get_weather:\nsun, 20 degrees\nASSISTANT:"
            )
            assert said.count("What is it?") == 1


async def test_output_of_a_call_that_was_never_made_is_refused(served: Gateway) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "sun"}
    question = {"role": "user", "content": "What is it?"}
    assert (await ask(served, input=[question, call, output])).status == 200
    for items in ([question, output], [output, question, call], [question, call | {"call_id": "2"}, output]):
        answer = await ask(served, input=items)
        param = f"input[{items.index(output)}].call_id"
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_value", param)
        assert "no tool call found for function call output with call_id 'call_1'" in answer.error["message"]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"type": "function", "name": "get_weather"}, {"type": "function", "name": "get_weather"}),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "get_weather"}],
            },
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "get_weather"}],
            },
        ),
    ],
)
async def test_only_the_chosen_function_may_be_called(choice: dict[str, Any], told: dict[str, Any]) -> None:
    engine = ScriptedEngine(CALL)
    other = {"type": "function", "name": "other"}
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, tools=[other, WEATHER], tool_choice=choice)
    constraint = engine.jobs[0].sampling.constraint
    assert constraint is not None
    assert "@get_weather" in constraint.grammar
    assert "@other" not in constraint.grammar
    openai_types.response(answer.body)
    assert orjson.loads(answer.body)["tool_choice"] == told


async def test_calls_have_no_log_probabilities_and_make_no_message() -> None:
    fields: dict[str, Any] = {"tools": [WEATHER], "include": ["message.output_text.logprobs"]}
    async with scripted_gateway(ScriptedEngine((" @get", "_weather {", '"place": ', '"Paris"}'))) as gateway:
        events = await streamed(gateway, **fields)
    assert [event.type for event in events] == CALL_EVENTS
    async with scripted_gateway(ScriptedEngine((" @get", " it."))) as gateway:
        events = await streamed(gateway, **fields)
    assert events[-1].response.output_text == "@get it."
    told = events[-1].response.output[0].content[0].logprobs
    assert [entry.token for entry in told] == [" @get", " it."]
    (delta,) = [event for event in events if event.type == "response.output_text.delta"]
    assert [entry.token for entry in delta.logprobs] == [" @get", " it."]


async def test_call_cannot_be_required_with_a_form(served: Gateway) -> None:
    form = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
    answer = await ask(served, tools=[WEATHER], tool_choice="required", text=form)
    assert (answer.status, answer.error["param"]) == (400, "tool_choice")
    assert answer.error["message"] == "tool_choice: a call cannot be required with `text.format`"
