"""`/v1/completions`: the client's own prompts, one or many, whole and streamed."""

from typing import Any

import openai
import orjson
import pytest
from openai.types import Completion

from tests.api.asking import MODEL, sdk, send
from tests.api.wire import Answer
from tests.each import each
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, idle_engine, scripted_gateway

PATH = "/v1/completions"


def ids(text: str) -> list[int]:
    return [byte + 3 for byte in text.encode()]


async def ask(gateway: Gateway, prompt: Any, **fields: Any) -> Answer:
    return await send(gateway, "POST", PATH, json={"model": MODEL, "prompt": prompt, **fields})


async def completed(gateway: Gateway, prompt: Any, **fields: Any) -> Completion:
    answer = await ask(gateway, prompt, **fields)
    assert answer.status == 200, answer.body
    return Completion.model_validate_json(answer.body)


async def chunks(gateway: Gateway, prompt: Any, **fields: Any) -> list[dict[str, Any]]:
    answer = await ask(gateway, prompt, stream=True, **fields)
    assert answer.status == 200, answer.body
    *found, done, end = answer.body.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    return [orjson.loads(chunk.removeprefix(b"data: ")) for chunk in found]


@pytest.mark.parametrize(
    ("prompt", "jobs"),
    [
        ("Hi <image></s>", [[1, *ids("Hi <image></s>")]]),
        ("", [[1]]),
        (["a", "b"], [[1, *ids("a")], [1, *ids("b")]]),
        ([5, 6], [[1, 5, 6]]),
        ([1, 5, 6], [[1, 5, 6]]),
        ([1, 1, 5], [[1, 1, 5]]),
        ([[5], [1, 6]], [[1, 5], [1, 6]]),
    ],
)
async def test_a_prompt_is_taken_as_it_is_after_one_bos(prompt: Any, jobs: list[list[int]]) -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        completion = await completed(gateway, prompt)
    assert [job.token_ids for job in engine.jobs] == jobs
    assert [choice.text for choice in completion.choices] == [" A red circle."] * len(jobs)
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (sum(map(len, jobs)), 3 * len(jobs))


async def test_the_sdk_reads_a_completion_and_a_stream(served: Gateway) -> None:
    async with sdk(served) as client:
        whole = await client.completions.create(model=MODEL, prompt="Hi")
        stream = await client.completions.create(
            model=MODEL, prompt="Hi", stream=True, stream_options={"include_usage": True}
        )
        told = [chunk async for chunk in stream]
    assert (whole.object, whole.choices[0].text) == ("text_completion", " A red circle.")
    assert "".join(choice.text for chunk in told for choice in chunk.choices) == whole.choices[0].text
    assert told[-1].usage == whole.usage


@pytest.mark.parametrize("stream", [False, True])
async def test_choices_are_numbered_through_prompts_and_answers(served: Gateway, stream: bool) -> None:
    prompts = ["x", "yy", "zzz"]
    if stream:
        texts = [""] * 6
        for chunk in await chunks(served, prompts, n=2, echo=True):
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["text"]
    else:
        completion = await completed(served, prompts, n=2, echo=True)
        assert [choice.index for choice in completion.choices] == list(range(6))
        texts = [choice.text for choice in completion.choices]
    assert texts == [f"{prompt} A red circle." for prompt in prompts for _ in range(2)]


async def test_16_tokens_where_not_said_but_no_more_than_there_is_room_for() -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        await completed(gateway, "x")
        await completed(gateway, "x" * 2040)
    assert [job.sampling.max_tokens for job in engine.jobs] == [16, 7]


async def test_echo_tells_ids_as_text(served: Gateway) -> None:
    completion = await completed(served, [1, *ids("Hé")], echo=True, max_tokens=1)
    assert completion.choices[0].text == "Hé A"


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_have_openais_shape(served: Gateway, stream: bool) -> None:
    if stream:
        *told, end = [chunk["choices"][0]["logprobs"] for chunk in await chunks(served, "x", logprobs=1)]
        assert end is None
        logprobs = {name: [each for part in told for each in part[name]] for name in told[0]}
    else:
        found = (await completed(served, "x", logprobs=1)).choices[0].logprobs
        assert found is not None
        logprobs = found.model_dump()
    assert logprobs == {
        "tokens": [" A", " red", " circle."],
        "token_logprobs": [-0.5, -0.5, -0.5],
        "top_logprobs": [{word: -0.5, f"{word}0": -0.5} for word in (" A", " red", " circle.")],
        "text_offset": [0, 2, 6],
    }


async def test_the_prompts_log_probabilities_come_once_and_are_every_choices(served: Gateway) -> None:
    answer = await ask(served, ["ab", "c"], echo=True, logprobs=0, n=2)
    prompts = [["<s>", "a", "b"]] * 2 + [["<s>", "c"]] * 2
    words = [" A", " red", " circle."]
    assert [choice["logprobs"]["tokens"] for choice in orjson.loads(answer.body)["choices"]] == [
        [*prompt, *words] for prompt in prompts
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_echo_with_logprobs_tells_those_of_the_prompt(served: Gateway, stream: bool) -> None:
    """As evaluation harnesses ask: nothing new, and how likely the prompt is."""
    fields = {"echo": True, "logprobs": 0, "max_tokens": 0}
    if stream:
        chunk, end = await chunks(served, "ab", **fields)
        chunk["choices"][0]["finish_reason"] = end["choices"][0]["finish_reason"]
    else:
        chunk = orjson.loads((await ask(served, "ab", **fields)).body)
        assert chunk["usage"]["completion_tokens"] == 0
    assert chunk["choices"][0] == {
        "index": 0,
        "text": "ab",
        "logprobs": {
            "tokens": ["<s>", "a", "b"],
            "token_logprobs": [None, -0.25, -0.25],
            "top_logprobs": [None, {"a": -0.25}, {"b": -0.25}],
            "text_offset": [0, 0, 1],
        },
        "finish_reason": "length",
    }


async def test_a_streams_chunks_name_their_kind_and_end(served: Gateway) -> None:
    told = await chunks(served, "x", max_tokens=2)
    assert {chunk["object"] for chunk in told} == {"text_completion"}
    choices = [chunk["choices"][0] for chunk in told]
    assert [(choice["text"], choice["finish_reason"]) for choice in choices] == [
        (" A", None),
        (" red", None),
        ("", "length"),
    ]
    assert all("usage" not in chunk for chunk in told)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"suffix": "x"}, "unsupported_parameter", "suffix"),
    ({"best_of": 2}, "unsupported_parameter", "best_of"),
    ({"messages": []}, "unknown_parameter", "messages"),
    ({"prompt": 5}, "invalid_value", "prompt"),
    ({"prompt": []}, "invalid_value", "prompt"),
    ({"prompt": ["x", [5]]}, "invalid_value", "prompt"),
    ({"prompt": [[]]}, "invalid_value", "prompt"),
    ({"prompt": [5, "x"]}, "invalid_value", "prompt"),
    ({"prompt": [-1]}, "invalid_value", "prompt"),
    ({"prompt": [True]}, "invalid_value", "prompt"),
    ({"prompt": ["x"] * 65}, "invalid_value", "prompt"),
    ({"prompt": ["x"] * 9, "n": 16}, "invalid_value", "prompt"),
    ({"prompt": [5, 1000]}, "invalid_value", "prompt[1]"),
    ({"prompt": [[5], [6, 1001]]}, "invalid_value", "prompt[1][1]"),
    ({"prompt": "x" * 2048}, "context_length_exceeded", "prompt"),
    ({"prompt": "x" * 60_000}, "context_length_exceeded", "prompt"),
    ({"prompt": ["x", "x" * 2048]}, "context_length_exceeded", "prompt[1]"),
    ({"prompt": [5] * 3000}, "context_length_exceeded", "prompt"),
    ({"max_tokens": 0}, "invalid_value", "max_tokens"),
    ({"logprobs": 6}, "invalid_value", "logprobs"),
    ({"logprobs": True}, "invalid_value", "logprobs"),
    ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
    # More log probabilities than one answer may have: of all prompts, and of those that are told again.
    ({"prompt": ["x"] * 64, "n": 2, "max_tokens": 300, "logprobs": 5}, "invalid_value", "logprobs"),
    ({"prompt": ["x" * 2000] * 17, "echo": True, "logprobs": 5}, "invalid_value", "logprobs"),
    ({"prompt": ["x" * 2000] * 2, "n": 16, "echo": True, "logprobs": 5}, "invalid_value", "logprobs"),
]


@each(("fields", "code", "param"), REFUSED)
async def test_bad_requests_are_told_with_their_field(
    served: Gateway, fields: dict[str, Any], code: str, param: str
) -> None:
    answer = await ask(
        served, fields.get("prompt", "x"), **{k: v for k, v in fields.items() if k != "prompt"}
    )
    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert len(answer.error["message"]) < 300


async def test_one_prompt_that_fails_ends_them_all() -> None:
    engine = ScriptedEngine(pause=0.05, error=RuntimeError("x"), fails_at=2)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        with pytest.raises(openai.InternalServerError):
            await client.completions.create(model=MODEL, prompt=["a", "b", "c"])
        await idle_engine(engine)


async def test_a_client_that_leaves_ends_the_jobs_of_all_its_prompts() -> None:
    engine = ScriptedEngine(words=("x",) * 1000, pause=0.02)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        stream = await client.completions.create(
            model=MODEL, prompt=["a", "b", "c"], stream=True, max_tokens=1000
        )
        await anext(aiter(stream))
        assert engine.running == 3
        await stream.close()
        await idle_engine(engine)
