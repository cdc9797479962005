"""Whatever ends a request from outside, its client is told, and everything that the request held is free."""

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest

from gateway.answering.deadlines import RunningRequests
from gateway.answering.lifecycle import Lifecycle
from tests.api.asking import ask, chat, send
from tests.api.wire import LIVE, Connection, connected, head, post
from tests.scripted_engine import ScriptedEngine
from tests.servers import PROMPTLY, Gateway, metric, scripted_gateway, until

SLOW = ScriptedEngine.words * 1000


async def begin_to_end(gateway: Gateway) -> None:
    assert gateway.server is not None
    assert gateway.app is not None
    lifecycle: Lifecycle = gateway.app.state.lifecycle
    gateway.server.should_exit = True
    await until(lambda: lifecycle.draining)  # uvicorn looks ten times a second


async def test_a_draining_gateway_answers_says_not_ready_and_closes_connections() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), drain_delay=1) as gateway,
        connected(gateway) as kept,
    ):
        await kept.send(LIVE)
        assert (await kept.answer()).headers.get("connection") is None
        await begin_to_end(gateway)
        ready = await send(gateway, "GET", "/health/ready")
        assert (ready.status, orjson.loads(ready.body)) == (503, {"status": "shutting down"})
        await kept.send(post(chat()))
        answer = await kept.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await kept.rest() == b""


async def test_a_closing_gateway_ends_what_runs_and_takes_nothing_new() -> None:
    engine = ScriptedEngine(("A", "B", "C", "D"), pause=60)
    async with (
        scripted_gateway(engine, shutdown_timeout=30) as gateway,
        connected(gateway) as running,
        connected(gateway) as late,
    ):
        await running.send(post(chat(stream=True)))
        await until(lambda: engine.running == 1)
        await begin_to_end(gateway)
        await late.send(post(chat()))
        answer = await late.answer()
        assert (answer.status, answer.error["code"]) == (503, "shutting_down")
        assert answer.headers["connection"] == "close"
        assert answer.headers["retry-after"] == "1"
        engine.hurried = True
        assert (await running.rest()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_connection_that_came_last_is_told_and_not_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.serving.server.LAST", 5)
    async with scripted_gateway(ScriptedEngine()) as gateway, connected(gateway) as last:
        assert gateway.server is not None
        listeners = gateway.server.servers
        gateway.server.should_exit = True
        await until(lambda: not any(listener.is_serving() for listener in listeners))
        await last.send(post(chat()))
        answer = await last.answer()
        assert (answer.status, answer.error["code"]) == (503, "shutting_down")
        assert await last.rest() == b""


FORM = (
    b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nmine\r\n--x--\r\n'
)
QUESTION = orjson.dumps(chat())
LARGE = 20_000_000  # bytes: more than the buffers between a client and the gateway hold
UNFINISHED = {  # what came of a body, and the rest
    "/v1/files": ("content-type: multipart/form-data; boundary=x", FORM),
    "/v1/chat/completions/render": ("content-type: application/json", QUESTION),
    "/tokenize": ("content-type: application/json", QUESTION),
}


async def half_sent(connection: Connection, path: str) -> None:
    kind, body = UNFINISHED[path]
    await connection.send(head("POST", path, kind, f"content-length: {len(body)}") + body[:50])


async def uploaded(gateway: Gateway, size: int) -> str:
    form = {"purpose": (None, "user_data"), "file": ("x", bytes(size))}
    stored: str = orjson.loads((await send(gateway, "POST", "/v1/files", files=form)).body)["id"]
    return stored


async def begun(gateway: Gateway, number: int) -> None:
    """Return once `number` requests run."""
    assert gateway.app is not None
    running: RunningRequests = gateway.app.state.running
    await until(lambda: len(running) == number)


async def test_every_request_may_end_after_the_signal_not_only_those_that_generate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.serving.server.FINISH", 0.05)
    monkeypatch.setattr("gateway.serving.server.LAST", 0.05)
    async with AsyncExitStack() as held:
        gateway = await held.enter_async_context(scripted_gateway(ScriptedEngine(), shutdown_timeout=30))
        sending = {path: await held.enter_async_context(connected(gateway)) for path in UNFINISHED}
        for path, connection in sending.items():
            await half_sent(connection, path)
        reading = await held.enter_async_context(connected(gateway))
        await reading.send(head("GET", f"/v1/files/{await uploaded(gateway, LARGE)}/content"))
        await reading.head()
        await begun(gateway, len(sending) + 1)
        await begin_to_end(gateway)
        await asyncio.sleep(0.3)
        assert gateway.server is not None
        assert all(listener.is_serving() for listener in gateway.server.servers)
        for path, connection in sending.items():
            await connection.send(UNFINISHED[path][1][50:])
            answer = await connection.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert len(await reading.rest()) == LARGE


async def test_requests_that_do_not_generate_are_told_too_when_their_time_is_over() -> None:
    async with AsyncExitStack() as held:
        gateway = await held.enter_async_context(scripted_gateway(ScriptedEngine(), shutdown_timeout=0.1))
        sending = {path: await held.enter_async_context(connected(gateway)) for path in UNFINISHED}
        for path, connection in sending.items():
            await half_sent(connection, path)
        await begun(gateway, len(sending))
        await begin_to_end(gateway)
        for connection in sending.values():
            answer = await connection.answer()
            assert (answer.status, answer.error["code"]) == (503, "shutting_down")


async def test_what_cannot_end_in_time_is_told_so() -> None:
    engine = ScriptedEngine(SLOW, pause=0.05)
    async with (
        scripted_gateway(engine, shutdown_timeout=0.3, max_running=2) as gateway,
        connected(gateway) as stream,
        connected(gateway) as whole,
        connected(gateway) as waiting,
    ):
        await stream.send(post(chat(stream=True)))
        await whole.send(post(chat()))
        await until(lambda: engine.running == 2)
        await waiting.send(post(chat()))
        await begin_to_end(gateway)
        for told in (whole, waiting):
            answer = await told.answer()
            assert (answer.status, answer.error["code"]) == (503, "shutting_down")
        *_, last = (await stream.rest()).removesuffix(b"\r\n0\r\n\r\n").split(b"data: ")
        assert orjson.loads(last)["error"]["code"] == "shutting_down"
    assert engine.running == 0


async def test_a_second_signal_ends_it_at_once() -> None:
    engine = ScriptedEngine(pause=30)
    async with scripted_gateway(engine, shutdown_timeout=30) as gateway, connected(gateway) as running:
        assert gateway.server is not None
        await running.send(post(chat()))
        await until(lambda: engine.running == 1)
        gateway.server.handle_exit(15, None)
        await asyncio.sleep(0.2)
        assert not gateway.server.force_exit
        gateway.server.handle_exit(15, None)
        began = asyncio.get_running_loop().time()
        await running.rest()
        assert asyncio.get_running_loop().time() - began < PROMPTLY


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_hears_nothing_from_the_engine_is_ended(*, stream: bool) -> None:
    engine = ScriptedEngine(pause=60)
    async with scripted_gateway(engine, stall_timeout=0.2) as gateway:
        answer = await ask(gateway, chat(stream=stream))
        assert (answer.status, answer.error["code"]) == (504, "engine_stalled")
        assert engine.running == 0
        assert await metric(gateway, "gateway_stalled_requests_total") == 1


async def test_an_engine_that_stops_in_the_middle_ends_the_stream_with_an_error() -> None:
    engine = ScriptedEngine(("A",) * 3 + ("B",), pause=0.05)
    async with scripted_gateway(engine, stall_timeout=1) as gateway:
        asked = asyncio.create_task(ask(gateway, chat(stream=True)))
        await until(lambda: engine.running == 1)
        engine.pause = 60  # before the second word
        answer = await asked
        assert answer.status == 200
        *_, last = answer.body.strip().split(b"data: ")
        assert orjson.loads(last)["error"]["code"] == "engine_stalled"
        assert engine.running == 0


async def test_an_answer_has_a_deadline() -> None:
    engine = ScriptedEngine(SLOW, pause=0.05)
    async with scripted_gateway(engine, request_timeout=0.4) as gateway:
        answer = await ask(gateway)
        assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
        assert answer.error["message"] == "the answer was not ready within 0.4 s"
        stream = await ask(gateway, chat(stream=True))
        *_, last = stream.body.strip().split(b"data: ")
        assert orjson.loads(last)["error"]["code"] == "deadline_exceeded"
        assert engine.running == 0


async def test_a_whole_answer_is_given_up_when_its_client_does() -> None:
    engine = ScriptedEngine(SLOW, pause=0.05)
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, x_stainless_read_timeout="0.3")
        assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")


async def test_a_stream_may_take_longer_than_its_client_waits_for_one_piece() -> None:
    engine = ScriptedEngine(("A",) * 20, pause=0.05)
    async with scripted_gateway(engine) as gateway:
        answer = await ask(gateway, chat(stream=True), x_stainless_read_timeout="0.5")
        assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("told", ["None", "nan", "-1", "0", "abc", "1e400"])
async def test_an_odd_read_timeout_counts_as_none(served: Gateway, told: str) -> None:
    async with connected(served) as connection:
        await connection.send(head("GET", "/health/live"))
        await connection.answer()
    assert (await ask(served, x_stainless_read_timeout=told)).status == 200
