"""`/v1/batches` through OpenAI's own client: every line once, whatever happens on the way."""

import asyncio
import gzip
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import openai
import orjson
import pytest
from openai.types import Batch
from structlog.testing import capture_logs

from gateway.access import keys
from gateway.errors import EngineNotReady, GenerationFailed
from gateway.storage.batches import Batches
from gateway.storage.database import NAME
from tests.api.asking import MODEL, QUESTION, sdk
from tests.api.wire import connected, head
from tests.scripted_engine import ScriptedEngine
from tests.servers import PROMPTLY, Gateway, metric, samples, scripted_gateway, until

CHAT: Final = "/v1/chat/completions"
KEY: Final = "authorization: Bearer sk-secret"  # the client's
RUNNING: Final = "gateway_batch_lines_running"
WAITING: Final = "gateway_batch_lines_waiting"


@pytest.fixture(scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    async with scripted_gateway(ScriptedEngine()) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with sdk(gateway) as made:
        yield made


def line(name: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    asked = {"model": MODEL, "messages": [QUESTION], **body}
    return {"custom_id": name, "method": "POST", "url": url, "body": asked}


async def start(
    client: openai.AsyncOpenAI, lines: Sequence[dict[str, Any] | bytes], endpoint: Any = CHAT, **options: Any
) -> Batch:
    content = b"\n".join(some if isinstance(some, bytes) else orjson.dumps(some) for some in lines)
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options
    )


async def ended(client: openai.AsyncOpenAI, batch: Batch, seconds: float = 60) -> Batch:
    async with asyncio.timeout(seconds):
        while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
            await asyncio.sleep(0.02)
            batch = await client.batches.retrieve(batch.id)
    return batch


async def lines_of(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    content = (await client.files.content(file_id)).read()
    assert content.endswith(b"\n")
    return [orjson.loads(some) for some in content.splitlines()]


async def test_batch_is_answered_in_the_order_of_its_lines(client: openai.AsyncOpenAI) -> None:
    began = int(time.time())
    names = [f"line-{number}" for number in range(20)]
    made = await start(client, [line(name) for name in names], metadata={"for": "a test"})
    assert (made.status, made.endpoint, made.completion_window) == ("validating", CHAT, "24h")
    assert made.expires_at == made.created_at + 86_400
    batch = await ended(client, made)
    assert (batch.status, batch.model, batch.metadata) == ("completed", MODEL, {"for": "a test"})
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
    assert batch.error_file_id is None
    times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert times == sorted(times, key=lambda moment: moment or 0)
    assert began <= batch.created_at
    assert set(batch.to_dict()) == set(Batch.model_fields)  # no key more or less than OpenAI's
    Batch.model_validate(batch.to_dict(), strict=True)
    results = await lines_of(client, batch.output_file_id)
    assert [result["custom_id"] for result in results] == names
    for result in results:
        assert list(result) == ["id", "custom_id", "response", "error"]
        assert result["error"] is None
        assert result["response"]["status_code"] == 200
        assert result["response"]["body"]["choices"][0]["message"]["content"] == "A red circle."
    assert len({result["response"]["body"]["id"] for result in results}) == 20
    used = [result["response"]["body"]["usage"] for result in results]
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in used) == 60
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in used)
    file = await client.files.retrieve(batch.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert file.expires_at == file.created_at + 30 * 86_400


async def test_batch_of_completions(client: openai.AsyncOpenAI) -> None:
    asked = {"model": MODEL, "prompt": "Once"}
    url = "/v1/completions"
    lines = [{"custom_id": "one", "method": "POST", "url": url, "body": asked}]
    batch = await ended(client, await start(client, lines, url))
    [result] = await lines_of(client, batch.output_file_id)
    assert result["response"]["body"]["object"] == "text_completion"


async def test_batch_of_responses(client: openai.AsyncOpenAI) -> None:
    asked = {"model": MODEL, "input": "What is it?", "store": False}
    url = "/v1/responses"
    lines = [{"custom_id": "one", "method": "POST", "url": url, "body": asked}]
    batch = await ended(client, await start(client, lines, url))
    [result] = await lines_of(client, batch.output_file_id)
    assert result["response"]["body"]["output"][0]["content"][0]["text"] == "A red circle."


async def test_line_that_is_refused_is_in_the_error_file_with_its_error(client: openai.AsyncOpenAI) -> None:
    lines = [
        line("good"),
        line("bad", temperature=3),
        line("streamed", stream=True),
        line("other", model="x"),
    ]
    batch = await ended(client, await start(client, lines))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 1, "failed": 3}
    assert [result["custom_id"] for result in await lines_of(client, batch.output_file_id)] == ["good"]
    errors = await lines_of(client, batch.error_file_id)
    told = [(error["custom_id"], error["response"]["status_code"]) for error in errors]
    assert told == [("bad", 400), ("streamed", 400), ("other", 404)]
    params = [error["response"]["body"]["error"]["param"] for error in errors]
    assert params == ["temperature", "stream", "model"]


BAD_JSON: Final = "invalid_json_line"
DEEP: Final = b'{"a":' * 300 + b"1" + b"}" * 300  # what orjson reads and does not write
BAD_LINES = [
    (b"{not json", BAD_JSON, None),
    (b"[1]", BAD_JSON, None),
    (orjson.dumps({**line("x"), "method": "GET"}), "invalid_value", "method"),
    (orjson.dumps(line("x", url="/v1/responses")), "invalid_value", "url"),
    (orjson.dumps({**line("x"), "body": 1}), "invalid_value", "body"),
    (b'{"custom_id":"x","method":"POST","url":"%b","body":%b}' % (CHAT.encode(), DEEP), BAD_JSON, None),
    (b'{"custom_id":%b}' % DEEP, BAD_JSON, None),
    (orjson.dumps(line("")), "invalid_value", "custom_id"),
    (orjson.dumps({"method": "POST", "url": CHAT, "body": {}}), "missing_required_parameter", "custom_id"),
    (orjson.dumps(line("good")), "duplicate_custom_id", "custom_id"),
]


async def test_input_with_bad_lines_fails_and_each_is_told(client: openai.AsyncOpenAI) -> None:
    batch = await ended(client, await start(client, [line("good"), b"", *(raw for raw, _, _ in BAD_LINES)]))
    assert (batch.status, batch.output_file_id, batch.in_progress_at) == ("failed", None, None)
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(error.line, error.code, error.param) for error in batch.errors.data] == [
        (number, code, param) for number, (_, code, param) in enumerate(BAD_LINES, 3)
    ]


async def test_empty_input_fails(client: openai.AsyncOpenAI) -> None:
    batch = await ended(client, await start(client, [b"", b"  "]))
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert (batch.status, batch.errors.data[0].code) == ("failed", "empty_file")


async def test_large_input_is_read_in_pieces(client: openai.AsyncOpenAI) -> None:
    words = "x" * 700_000  # Lines lie across the pieces that files are stored in.
    lines = [line(f"{number}", messages=[{"role": "user", "content": words}]) for number in range(5)]
    batch = await ended(client, await start(client, lines))
    errors = await lines_of(client, batch.error_file_id)
    assert [error["custom_id"] for error in errors] == ["0", "1", "2", "3", "4"]
    assert {error["response"]["body"]["error"]["code"] for error in errors} == {"context_length_exceeded"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_batch_is_refused_by_name(
    client: openai.AsyncOpenAI, change: dict[str, Any], param: str
) -> None:
    file = await client.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"} | change
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/batches", body=asked, cast_to=Batch)
    assert (caught.value.param or "").startswith(param)


async def test_body_that_makes_a_batch_is_small_and_may_be_gzip(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    file = await client.files.create(file=("in.jsonl", orjson.dumps(line("a"))), purpose="batch")
    body = orjson.dumps({"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"})
    async with connected(gateway) as connection:
        await connection.send(batches(gzip.compress(body), "content-encoding: gzip"))
        assert (await connection.answer()).status == 200
        await connection.send(batches(body.ljust(65_536)))
        assert (await connection.answer()).status == 200
        await connection.send(batches(body.ljust(65_537)))
        answer = await connection.answer()
    assert (answer.status, answer.error["message"]) == (
        413,
        "the request body is 65537 bytes; the limit is 65536",
    )


def batches(body: bytes, *headers: str) -> bytes:
    return head("POST", "/v1/batches", KEY, f"content-length: {len(body)}", *headers) + body


async def test_input_must_be_of_purpose_batch(client: openai.AsyncOpenAI) -> None:
    file = await client.files.create(file=("in.jsonl", b"{}"), purpose="vision")
    with pytest.raises(openai.BadRequestError, match="purpose must be `batch`; it is `vision`"):
        await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


async def test_nobody_sees_anothers_batches(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    batch = await ended(client, await start(client, [line("mine")]))
    async with sdk(gateway, api_key="sk-other") as other:
        for attempt in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError, match=f"no such batch: {batch.id}"):
                await attempt(batch.id)
        assert [found async for found in other.batches.list()] == []
        with pytest.raises(openai.BadRequestError):
            await other.batches.create(
                input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
            )
        with pytest.raises(openai.NotFoundError):
            await other.files.content(batch.output_file_id or "")


async def test_line_sees_only_its_callers_files(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    mine = await client.files.create(file=("x.png", b"x"), purpose="vision")
    part = {"type": "file", "file": {"file_id": mine.id}}
    asked = line("theirs", messages=[{"role": "user", "content": [part]}])
    async with sdk(gateway, api_key="sk-other") as other:
        batch = await ended(other, await start(other, [asked]))
        [error] = await lines_of(other, batch.error_file_id)
        assert f"no such file: {mine.id}" in error["response"]["body"]["error"]["message"]


async def test_list_is_paged_the_newest_first(gateway: Gateway) -> None:
    async with sdk(gateway, api_key="sk-list") as client:
        made = [await start(client, [line("x")]) for _ in range(3)]
        ids = [batch.id async for batch in client.batches.list(limit=2)]
        assert ids == [batch.id for batch in reversed(made)]
        page = await client.batches.list(after=made[2].id, limit=1)
        assert ([batch.id for batch in page.data], page.has_more) == ([made[1].id], True)
        for batch in made:
            await ended(client, batch)


async def test_deleting_the_input_does_not_touch_a_batch_that_runs() -> None:
    engine = ScriptedEngine(pause=0.05)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        made = await start(client, [line(f"{number}") for number in range(10)])
        await until(lambda: engine.running > 0)
        await client.files.delete(made.input_file_id)
        batch = await ended(client, made)
        assert len(await lines_of(client, batch.output_file_id)) == 10


async def test_cancelled_batch_keeps_what_was_answered_and_tells_the_rest() -> None:
    engine = ScriptedEngine(pause=0.1)
    async with scripted_gateway(engine, batch_max_running=2) as gateway, sdk(gateway) as client:
        made = await start(client, [line(f"{number}") for number in range(20)])
        await until(lambda: len(engine.jobs) > 3)
        cancelling = await client.batches.cancel(made.id)
        assert cancelling.status == "cancelling"
        batch = await ended(client, made)
        assert batch.status == "cancelled"
        done = [result["custom_id"] for result in await lines_of(client, batch.output_file_id)]
        left = await lines_of(client, batch.error_file_id)
        assert done
        assert sorted([*done, *(error["custom_id"] for error in left)], key=int) == [
            str(n) for n in range(20)
        ]
        assert {(error["response"], error["error"]["code"]) for error in left} == {(None, "batch_cancelled")}
        assert len(engine.jobs) == len(done)
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 20, "completed": len(done), "failed": len(left)}
        with pytest.raises(openai.BadRequestError, match="the batch is cancelled: it cannot be cancelled"):
            await client.batches.cancel(made.id)


async def test_input_deleted_while_it_is_validated_fails_the_batch_by_name(
    client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = Batches.add_lines

    async def deleting(self: Batches, batch_id: str, lines: Any) -> bool:
        for file in (await client.files.list(purpose="batch")).data:
            await client.files.delete(file.id)
        return await healthy(self, batch_id, lines)

    monkeypatch.setattr(Batches, "add_lines", deleting)
    text = [{"role": "user", "content": "x" * 3000}]
    batch = await ended(client, await start(client, [line(f"{n}", messages=text) for n in range(600)]))
    assert batch.status == "failed"
    assert batch.errors is not None
    [error] = batch.errors.data or []
    told = f"file {batch.input_file_id} was deleted while it was read"
    assert (error.code, error.message) == ("input_file_not_found", told)


async def test_counts_of_a_batch_cancelled_while_validated_are_those_of_its_files(
    client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = Batches.add_lines

    async def cancelling(self: Batches, batch_id: str, lines: Any) -> bool:
        stored = await healthy(self, batch_id, lines)
        if stored:
            await client.batches.cancel(batch_id)
        return stored

    monkeypatch.setattr(Batches, "add_lines", cancelling)
    batch = await ended(client, await start(client, [line(f"{n}") for n in range(1200)]))
    assert (batch.status, batch.output_file_id) == ("cancelled", None)
    left = await lines_of(client, batch.error_file_id)
    assert {error["error"]["code"] for error in left} == {"batch_cancelled"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": len(left), "completed": 0, "failed": len(left)}


async def test_batch_that_takes_too_long_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(pause=0.1)
    async with scripted_gateway(engine, batch_max_running=1) as gateway, sdk(gateway) as client:
        made = await start(client, [line(f"{number}") for number in range(5)])
        await until(lambda: engine.running > 0)
        now = time.time()
        monkeypatch.setattr("gateway.batches.batch_run._now", lambda: int(now) + 86_400)
        batch = await ended(client, made)
        assert batch.status == "expired"
        assert batch.expired_at is not None
        left = await lines_of(client, batch.error_file_id)
        assert {error["error"]["code"] for error in left} == {"batch_expired"}
        assert len(left) + len(await lines_of(client, batch.output_file_id)) == 5


async def test_live_requests_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """While live requests are under way no line starts; afterwards they go on."""
    monkeypatch.setattr("gateway.batches.line_scheduler.PATIENCE", 60)  # however busy this machine is
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        messages: Any = [QUESTION]
        live = [
            asyncio.create_task(client.chat.completions.create(model=MODEL, messages=messages, seed=7))
            for _ in range(3)
        ]
        await until(lambda: engine.running == 3)
        made = await start(client, [line(f"{number}") for number in range(3)])
        more = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=messages, seed=7))
        await until(lambda: engine.running == 4)
        await asyncio.sleep(0.3)
        assert all(job.sampling.seed == 7 for job in engine.jobs)
        engine.hurried = True
        await asyncio.gather(*live, more)
        batch = await ended(client, made)
        assert batch.status == "completed"
        priorities = {job.priority for job in engine.jobs if job.sampling.seed is None}
        assert min(priorities) > max(job.priority for job in engine.jobs if job.sampling.seed == 7)


async def test_batch_is_not_stuck_behind_live_requests_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.batches.line_scheduler.PATIENCE", 0.2)
    engine = ScriptedEngine(pause=0.02)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        over = asyncio.Event()

        async def ask_again_and_again() -> None:
            messages: Any = [QUESTION]
            while not over.is_set():
                await client.chat.completions.create(model=MODEL, messages=messages)

        live = [asyncio.create_task(ask_again_and_again()) for _ in range(4)]
        batch = await ended(client, await start(client, [line("one"), line("two")]))
        over.set()
        await asyncio.gather(*live)
        assert batch.status == "completed"


async def test_cancelling_does_not_wait_for_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.batches.line_scheduler.PATIENCE", 60)
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        messages: Any = [QUESTION]
        live = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=messages))
        await until(lambda: engine.running == 1)
        made = await start(client, [line("one"), line("two")])
        await reaches(gateway, WAITING, 2)
        await client.batches.cancel(made.id)
        assert (await ended(client, made, PROMPTLY)).status == "cancelled"
        engine.hurried = True
        await live


async def test_another_callers_batch_takes_the_place_of_ones_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.batches.runner.BATCHES_AT_ONCE", 2)
    engine = ScriptedEngine(pause=0.02)
    async with (
        scripted_gateway(engine, api_keys="eve:eve,ann:ann", batch_max_running=2) as gateway,
        sdk(gateway, api_key="eve") as eve,
        sdk(gateway, api_key="ann") as ann,
    ):
        many = [await start(eve, [line(str(number)) for number in range(20)]) for _ in range(3)]
        await until(lambda: engine.running > 0)
        one = await ended(ann, await start(ann, [line("one")]))
        assert one.status == "completed"
        assert len(engine.jobs) < 61
        for batch in many:
            assert len(await lines_of(eve, (await ended(eve, batch)).output_file_id)) == 20
        assert len(engine.jobs) == 61


async def test_batches_of_a_revoked_key_end_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.access.keys_file.LOOK_EVERY", 0.05)
    monkeypatch.setattr("gateway.batches.runner.CHECK_EVERY", 0.05)
    file = tmp_path / "keys.toml"
    eve, ann = (keys.add(file, name, None) for name in ("eve", "ann"))
    engine = ScriptedEngine(pause=0.1)
    chosen: dict[str, Any] = {"state_dir": tmp_path, "keys_file": file, "batch_max_running": 1}
    async with scripted_gateway(engine, **chosen) as gateway:
        async with sdk(gateway, api_key=eve) as client:
            made = await start(client, [line(str(number)) for number in range(100)])
            await until(lambda: len(engine.jobs) > 1)
            keys.revoke(file, "eve")
        await until(lambda: stored_batch(tmp_path, made.id)["status"] == "failed", PROMPTLY)
        state = stored_batch(tmp_path, made.id)
        assert [error["code"] for error in state["errors"]["data"]] == ["api_key_revoked"]
        assert len(engine.jobs) < 50
        async with sdk(gateway, api_key=ann) as client:
            assert (await ended(client, await start(client, [line("one")]))).status == "completed"


def stored_batch(folder: Path, batch_id: str) -> dict[str, Any]:
    with closing(sqlite3.connect(folder / NAME)) as connection:
        (state,) = connection.execute("SELECT state FROM batches WHERE id = ?", (batch_id,)).fetchone()
    found: dict[str, Any] = orjson.loads(state)
    return found


async def test_a_line_with_which_the_gateway_ended_three_times_fails_and_others_do_not(
    tmp_path: Path,
) -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine, state_dir=tmp_path) as gateway, sdk(gateway) as client:
        made = await start(client, [line("first"), line("poison"), line("third")])
        await until(lambda: engine.running == 3)
        assert tries(tmp_path) == {1: 1, 2: 1, 3: 1}  # counted before it runs
    assert tries(tmp_path) == {1: 0, 2: 0, 3: 0}  # an orderly end is nobody's fault
    with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
        connection.execute("UPDATE batch_attempts SET attempts = CASE line WHEN 2 THEN 3 ELSE 2 END")
    again = ScriptedEngine(pause=0.02)
    most = 0
    async with scripted_gateway(again, state_dir=tmp_path) as gateway, sdk(gateway) as client:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, again.running)
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        batch = await ended(client, made)
        watching.cancel()
        results = await lines_of(client, batch.output_file_id)
        [failed] = await lines_of(client, batch.error_file_id)
    assert [result["custom_id"] for result in results] == ["first", "third"]
    assert (failed["custom_id"], failed["response"]["body"]["error"]["code"]) == ("poison", "poison_request")
    assert (len(again.jobs), most) == (2, 1)  # one at a time, so that the next end names the line
    assert tries(tmp_path) == {}


def tries(folder: Path) -> dict[int, int]:
    with closing(sqlite3.connect(folder / NAME)) as connection:
        return dict(connection.execute("SELECT line, attempts FROM batch_attempts"))


async def test_lines_at_once_are_bounded() -> None:
    engine = ScriptedEngine(pause=0.05)
    async with scripted_gateway(engine, batch_max_running=3) as gateway, sdk(gateway) as client:
        most = 0
        made = await start(client, [line(f"{number}") for number in range(30)])

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, engine.running)
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        await ended(client, made)
        watching.cancel()
        assert most == 3


@pytest.mark.parametrize(
    ("error", "status"), [(GenerationFailed("it failed"), 500), (EngineNotReady("it died"), 503)]
)
async def test_line_on_which_the_engine_fails_is_tried_three_times(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.batches.line.RETRY_AFTER", 0.01)
    engine = ScriptedEngine(error=error)
    async with scripted_gateway(engine) as gateway, sdk(gateway) as client:
        batch = await ended(client, await start(client, [line("one")]))
        [told] = await lines_of(client, batch.error_file_id)
        assert told["response"]["status_code"] == status
        assert len(engine.jobs) == 3


async def test_restart_answers_what_was_not_answered_and_nothing_twice(tmp_path: Path) -> None:
    engine = ScriptedEngine(pause=0.05)
    names = [str(number) for number in range(30)]
    async with scripted_gateway(engine, state_dir=tmp_path) as gateway, sdk(gateway) as client:
        made = await start(client, [line(name) for name in names])
        await until(lambda: len(engine.jobs) > 12)
        engine.pause = 60.0  # From now on no line ends.
    first = len(engine.jobs)
    again = ScriptedEngine()
    async with scripted_gateway(again, state_dir=tmp_path) as gateway, sdk(gateway) as client:
        batch = await ended(client, made)
        results = await lines_of(client, batch.output_file_id)
    assert [result["custom_id"] for result in results] == names
    assert first < 30
    # Those that ran when the first ended are all that may be asked twice.
    assert 30 <= first + len(again.jobs) <= 30 + 8
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 30


async def test_lines_are_counted_once_by_how_they_ended_across_a_restart(tmp_path: Path) -> None:
    engine = ScriptedEngine(pause=0.05)
    async with scripted_gateway(engine, state_dir=tmp_path) as gateway, sdk(gateway) as client:
        lines = [line(str(number)) for number in range(30)] + [line("bad", temperature=3)]
        made = await start(client, lines)
        await until(lambda: len(engine.jobs) > 12)
        engine.pause = 60.0  # Soon no line ends, and what is counted is what is stored.
        await reaches(gateway, RUNNING, 8)
        async with asyncio.timeout(PROMPTLY):
            while await counted(gateway) != {"completed": (stored := await completed(client, made))}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert 0 < stored < 30
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path) as gateway, sdk(gateway) as client:
        await ended(client, made)
        assert await counted(gateway) == {"completed": 30 - stored, "failed": 1}
        await reaches(gateway, WAITING, 0)
        assert await metric(gateway, RUNNING) == 0


async def reaches(gateway: Gateway, name: str, value: float) -> None:
    async with asyncio.timeout(PROMPTLY):
        while await metric(gateway, name) != value:  # noqa: ASYNC110  # the page tells nobody that it changes
            await asyncio.sleep(0.02)


async def completed(client: openai.AsyncOpenAI, batch: Batch) -> int:
    counts = (await client.batches.retrieve(batch.id)).request_counts
    assert counts is not None
    return counts.completed


async def counted(gateway: Gateway) -> dict[str, float]:
    """Return how many lines ended, by outcome."""
    found = await samples(gateway, "gateway_batch_lines_total")
    return {sample.labels["outcome"]: sample.value for sample in found}


async def test_of_two_gateways_on_one_state_one_runs_the_batches(tmp_path: Path) -> None:
    one, other = ScriptedEngine(pause=0.01), ScriptedEngine(pause=0.01)
    async with (
        scripted_gateway(one, state_dir=tmp_path) as first,
        scripted_gateway(other, state_dir=tmp_path) as second,
        sdk(first) as client,
        sdk(second) as reader,
    ):
        batch = await ended(reader, await start(client, [line(str(number)) for number in range(20)]))
        assert len(await lines_of(reader, batch.output_file_id)) == 20
        assert sorted([len(one.jobs), len(other.jobs)]) == [0, 20]


async def fill(client: openai.AsyncOpenAI) -> list[str]:
    """Upload files until there is no more room; return their ids."""
    ids: list[str] = []
    while True:
        try:
            ids.append((await client.files.create(file=("x", bytes(100_000)), purpose="user_data")).id)
        except openai.InternalServerError:
            return ids


async def test_batches_go_on_after_an_error_of_the_gateways_own(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, seen = Batches.unfinished, 0

    async def broken_once(self: Batches, *limits: int) -> Any:
        nonlocal seen
        seen += 1
        if seen == 1:
            raise TypeError("a field that is not known")
        return await healthy(self, *limits)

    monkeypatch.setattr(Batches, "unfinished", broken_once)
    monkeypatch.setattr("gateway.batches.runner.CHECK_EVERY", 0.05)
    with capture_logs() as lines:
        async with scripted_gateway(ScriptedEngine()) as gateway, sdk(gateway) as client:
            batch = await ended(client, await start(client, [line("a")]))
    assert batch.status == "completed"
    assert [told["exc_info"] for told in lines if told["event"] == "batches_not_started"] == [True]


async def test_results_that_cannot_be_stored_now_are_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.batches.batch_run.RETRY_AFTER", 0.05)
    engine = ScriptedEngine()
    async with (
        scripted_gateway(engine, state_dir=tmp_path, state_max_bytes=3 * 2**20) as gateway,
        sdk(gateway) as client,
    ):
        fillers = await fill(client)
        await client.files.delete(fillers.pop())
        lines = [
            line(str(number), logprobs=True, top_logprobs=20, n=16, max_tokens=50) for number in range(10)
        ]
        made = await start(client, lines)
        await until(lambda: len(engine.jobs) > 0)
        await asyncio.sleep(0.5)
        assert (await client.batches.retrieve(made.id)).status == "in_progress"
        for filler_id in fillers:
            await client.files.delete(filler_id)
        batch = await ended(client, made)
        assert len(await lines_of(client, batch.output_file_id)) == 10
