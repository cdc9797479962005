"""A whole answer and a streamed one, to the byte where bytes matter."""

import time
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from openai import NotFoundError

from tests.api.asking import PROMPT, PROMPT_TOKENS, QUESTION, ask, chat, events, sdk
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

NOW = 1_700_000_000
HEAD = (
    '{"id":"chatcmpl-1234","object":"chat.completion.chunk","created":1700000000,"model":"llava-demo",'
    '"system_fingerprint":"fp_scripted","choices":['
)
USAGE = (
    f'{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":3,"total_tokens":{PROMPT_TOKENS + 3},'
    '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}}'
)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next answers' ids and time known."""
    clock = SimpleNamespace(time=lambda: NOW, perf_counter=time.perf_counter)
    monkeypatch.setattr("gateway.api.routes.chat.time", clock)
    monkeypatch.setattr("gateway.api.routes.chat.uuid4", lambda: SimpleNamespace(hex="1234"))


@pytest.mark.usefixtures("frozen")
async def test_stream_to_the_byte(served: Gateway) -> None:
    answer = await ask(served, chat(stream=True, stream_options={"include_usage": True}))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers
    expected = [
        chunk('{"role":"assistant","content":"","refusal":null}'),
        chunk('{"content":"A"}'),
        chunk('{"content":" red"}'),
        chunk('{"content":" circle."}'),
        chunk("{}", '"stop"'),
        f'data: {HEAD}],"usage":{USAGE}}}\n\n',
        "data: [DONE]\n\n",
    ]
    assert answer.body.decode() == "".join(expected)


def chunk(delta: str, finish_reason: str = "null") -> str:
    return (
        f'data: {HEAD}{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}],'
        '"usage":null}\n\n'
    )


@pytest.mark.usefixtures("frozen")
async def test_whole_answer_to_the_byte(served: Gateway) -> None:
    answer = await ask(served)
    assert answer.headers["content-type"] == "application/json"
    message = '{"content":"A red circle.","role":"assistant","refusal":null,"annotations":[]}'
    choice = f'{{"index":0,"message":{message},"finish_reason":"stop","logprobs":null}}'
    assert answer.body.decode() == (
        f'{{"id":"chatcmpl-1234","created":1700000000,"model":"llava-demo","choices":[{choice}],'
        f'"usage":{USAGE},"system_fingerprint":"fp_scripted","object":"chat.completion"}}'
    )


async def test_usage_is_in_no_chunk_unless_asked_for(served: Gateway) -> None:
    *chunks, done = await events(served)
    assert done == b"[DONE]"
    assert len(chunks) == 5
    assert all("usage" not in orjson.loads(chunk) for chunk in chunks)


async def test_include_usage_is_null_before_and_one_chunk_without_choices(served: Gateway) -> None:
    *chunks, usage, done = await events(served, stream_options={"include_usage": True})
    assert done == b"[DONE]"
    assert [orjson.loads(chunk)["usage"] for chunk in chunks] == [None] * 5
    last = orjson.loads(usage)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == PROMPT_TOKENS + 3


async def test_continuous_usage_is_in_every_chunk(served: Gateway) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, _ = await events(served, stream_options=options)
    usages = [orjson.loads(chunk)["usage"] for chunk in chunks]
    assert [usage["completion_tokens"] for usage in usages] == [1, 1, 2, 3, 3, 3]
    assert [usage["prompt_tokens"] for usage in usages] == [PROMPT_TOKENS] * 6


async def test_role_is_told_once_for_each_choice(served: Gateway) -> None:
    *chunks, _ = await events(served, n=3)
    choices = [choice for chunk in chunks for choice in orjson.loads(chunk)["choices"]]
    assert [choice["index"] for choice in choices] == [0, 0, 1, 1, 2, 2, 0, 1, 2, *[0, 0, 1, 1, 2, 2]]
    assert [choice["index"] for choice in choices if "role" in choice["delta"]] == [0, 1, 2]
    assert [choice["finish_reason"] for choice in choices] == [None] * 9 + [None, "stop"] * 3


async def test_finish_reason_is_length_where_the_answer_was_cut(served: Gateway) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        async with sdk(served) as client:
            cut = await client.chat.completions.create(**chat(**{name: 2}))
        assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("A red", "length")
        *_, last, _ = await events(served, **{name: 2})
        assert orjson.loads(last)["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 1},
        {},
        {"n": 2, "logprobs": True, "max_tokens": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"stream_options": {"continuous_usage_stats": True, "include_usage": True}},
    ],
)
async def test_the_event_with_the_finish_reason_tells_nothing_else(
    served: Gateway, fields: dict[str, Any]
) -> None:
    """There are clients that drop the text of an event with a finish reason."""
    *chunks, _ = await events(served, **fields)
    choices = [choice for chunk in chunks for choice in orjson.loads(chunk)["choices"]]
    ends = [choice for choice in choices if choice["finish_reason"]]
    assert len(ends) == fields.get("n", 1)
    assert [(end["delta"], end["logprobs"]) for end in ends] == [({}, None)] * len(ends)
    words = ["A", "red", "circle."][: fields.get("max_tokens")]
    first = [choice["delta"].get("content", "") for choice in choices if choice["index"] == 0]
    assert "".join(first) == " ".join(words)


async def test_max_completion_tokens_goes_before_max_tokens(served: Gateway) -> None:
    async with sdk(served) as client:
        cut = await client.chat.completions.create(**chat(max_tokens=3, max_completion_tokens=1))
    assert cut.choices[0].message.content == "A"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((" A", " dog"), "A dog"),
        (("  A",), " A"),
        ((" ", "A"), "A"),
        ((" ", " A"), " A"),
        (("", " A"), "A"),
        (("A", " "), "A "),
        (("\nA",), "\nA"),
        ((" ",), ""),
        (("",), ""),
    ],
)
async def test_the_blank_that_belongs_to_the_prompt_is_removed_once(
    words: tuple[str, ...], said: str
) -> None:
    async with scripted_gateway(ScriptedEngine(words)) as gateway, sdk(gateway) as client:
        whole = await client.chat.completions.create(**chat())
        *chunks, _ = await events(gateway)
    assert whole.choices[0].message.content == said
    deltas = [orjson.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == said
    assert [delta.get("role") for delta in deltas] == ["assistant", *[None] * (len(deltas) - 1)]


async def test_logprobs_have_openais_shape(served: Gateway) -> None:
    answer = orjson.loads((await ask(served, chat(logprobs=True, top_logprobs=2))).body)
    content = answer["choices"][0]["logprobs"]["content"]
    assert answer["choices"][0]["logprobs"]["refusal"] is None
    assert content[1] == {
        "token": " red",
        "logprob": -0.5,
        "bytes": list(b" red"),
        "top_logprobs": [
            {"token": " red0", "logprob": -0.5, "bytes": list(b" red0")},
            {"token": " red1", "logprob": -1.5, "bytes": list(b" red1")},
        ],
    }
    assert [entry["token"] for entry in content] == [" A", " red", " circle."]


async def test_logprobs_without_top_ones_have_an_empty_list_of_them(served: Gateway) -> None:
    async with sdk(served) as client:
        answer = await client.chat.completions.create(**chat(logprobs=True))
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [entry.top_logprobs for entry in logprobs.content] == [[], [], []]


ASKED: list[dict[str, Any]] = [
    {},
    {"n": 2},
    {"logprobs": True, "top_logprobs": 3},
    {"n": 2, "logprobs": True},
    {"stop": "x", "seed": 3, "temperature": 0},
]


@pytest.mark.parametrize("fields", ASKED)
async def test_whole_answer_is_what_the_sdk_puts_together_of_the_streamed_one(
    served: Gateway, fields: dict[str, Any]
) -> None:
    options = {"include_usage": True}
    async with sdk(served) as client:
        whole = await client.chat.completions.create(**chat(**fields))
        async with client.chat.completions.stream(**chat(stream_options=options, **fields)) as stream:
            streamed = await stream.get_final_completion()
    assert len(whole.choices) == len(streamed.choices) == fields.get("n", 1)
    for one, other in zip(whole.choices, streamed.choices, strict=True):
        assert one.index == other.index
        assert one.message.content == other.message.content == "A red circle."
        assert one.message.role == other.message.role
        assert one.finish_reason == other.finish_reason
        assert one.logprobs == other.logprobs
    assert whole.usage == streamed.usage


async def test_every_parameter_reaches_the_engine() -> None:
    engine = ScriptedEngine()
    sampling = {
        "n": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "seed": 7,
    }
    engines_own = {
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "min_tokens": 1,
        "ignore_eos": True,
        "stop_token_ids": [4, 5],
    }
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        await client.chat.completions.create(
            **chat(
                max_tokens=9,
                stop=["x", "y"],
                logit_bias={"17": -3},
                logprobs=True,
                top_logprobs=4,
                **sampling,
            ),
            extra_body=engines_own,
        )
    (job,) = engine.jobs
    assert {name: getattr(job.sampling, name) for name in sampling} == sampling
    assert {name: getattr(job.sampling, name) for name in engines_own} == engines_own | {
        "stop_token_ids": (4, 5)
    }
    assert job.sampling.max_tokens == 9
    assert job.sampling.stop == ("x", "y")
    assert job.sampling.logit_bias == {17: -3}
    assert job.sampling.logprobs == 4
    assert job.token_ids == [1, *(byte + 3 for byte in PROMPT.encode())]


async def test_what_is_not_said_is_the_profiles_or_openais_default() -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        await ask(gateway)
        await ask(gateway, chat(temperature=0.9))
        await ask(gateway, chat(top_p=0.9))
    sampling = engine.jobs[0].sampling
    assert (sampling.n, sampling.temperature, sampling.top_p, sampling.seed) == (1, 0.2, 0.7, None)
    assert [(job.sampling.temperature, job.sampling.top_p) for job in engine.jobs[1:]] == [(0.9, 1), (1, 0.9)]
    assert sampling.logprobs is None
    assert sampling.max_tokens == engine.model.context_length - PROMPT_TOKENS


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1"),
        ({"logit_bias": {"red": 1}}, "logit_bias.red"),
        ({"logit_bias": {"1001": 1}}, "logit_bias.1001"),
        ({"logit_bias": {"٣": 1}}, "logit_bias.٣"),
        ({"stop_token_ids": [1, 1001]}, "stop_token_ids[1]"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
    ],
)
async def test_what_the_model_cannot_do_is_refused_by_name(
    served: Gateway, fields: dict[str, Any], param: str
) -> None:
    answer = await ask(served, chat(**fields))
    assert answer.status == 400
    assert answer.error["code"] == "invalid_value"
    assert answer.error["param"].startswith(param)
    assert len(answer.error["message"]) < 300


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_longest_answer_over_the_room_left_is_cut_to_it(name: str) -> None:
    engine = ScriptedEngine()
    left = 2048 - PROMPT_TOKENS
    async with scripted_gateway(engine) as gateway:
        for wanted in (left - 1, left, left + 1, 10**9):
            assert (await ask(gateway, chat(**{name: wanted}))).status == 200
    assert [job.sampling.max_tokens for job in engine.jobs] == [left - 1, left, left, left]


async def test_a_longest_answer_over_the_room_left_is_refused_where_the_settings_say_so() -> None:
    left = 2048 - PROMPT_TOKENS
    async with scripted_gateway(ScriptedEngine(), max_tokens_over="refuse") as gateway:
        assert (await ask(gateway, chat(max_tokens=left))).status == 200
        answer = await ask(gateway, chat(max_tokens=left + 1))
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert str(PROMPT_TOKENS) in answer.error["message"]
    assert "2048" in answer.error["message"]


async def test_the_model_answers_to_its_aliases_and_they_are_listed() -> None:
    names = ("gpt-4o", "meta/llava")
    async with scripted_gateway(ScriptedEngine(), aliases=names) as gateway, sdk(gateway) as client:
        listed = [model.id async for model in client.models.list()]
        assert listed == ["llava-demo", *names]
        for name in names:
            assert (await client.models.retrieve(name)).id == name
            assert (await client.chat.completions.create(**chat(model=name))).model == name
        with pytest.raises(NotFoundError):
            await client.chat.completions.create(**chat(model="gpt-4"))


async def test_models_are_listed_and_found(served: Gateway) -> None:
    async with sdk(served) as client:
        (model,) = [model async for model in client.models.list()]
        assert (model.id, model.object, model.owned_by) == ("llava-demo", "model", "llava-gateway")
        assert await client.models.retrieve("llava-demo") == model


async def test_an_answer_may_be_sent_back_as_it_came(served: Gateway) -> None:
    async with sdk(served) as client:
        first = await client.chat.completions.create(**chat())
        echoed = first.choices[0].message.to_dict()
        again = await client.chat.completions.create(**chat(messages=[QUESTION, echoed, QUESTION]))
    assert again.choices[0].message.content == "A red circle."
