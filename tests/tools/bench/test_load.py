"""The client asks what it should when it should, and times it right."""

import asyncio
from typing import Any

import pytest

from tests.scripted_engine import MODEL as SCRIPTED
from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway
from tools.bench import client, load, pictures, workloads
from tools.bench.connection import Connection, Exchange
from tools.bench.figures import Measured
from tools.bench.workloads import WORKLOADS, Ask, Load, Mixed

MODEL = SCRIPTED.name


def small_pictures(count: int, name: str = "test") -> Load:
    def shoot(seed: str) -> pictures.Shot:
        return pictures.photograph_jpeg(seed, 336, 336)

    return workloads.pictures(MODEL, count, name=name, shoot=shoot, concurrency=4)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_a_load_is_asked_whole_and_measured() -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        measured = await load.measure(small_pictures(10), port_of(gateway.url))
    assert measured.failures == ()
    assert measured.requests == 10
    assert measured.completion_tokens == (3, 3)
    assert measured.figures["requests_per_s"] == pytest.approx(10 / measured.seconds)
    assert len(engine.jobs) == 12, "two of them to warm up"


async def test_streamed_answers_have_their_times() -> None:
    engine = ScriptedEngine(pause=0.02)
    async with scripted_gateway(engine) as gateway:
        plan = workloads.text(MODEL, 4, concurrency=2)
        measured = await load.measure(plan, port_of(gateway.url))
    assert measured.figures["ttft_ms_p50"] >= 20
    assert 15 <= measured.figures["gap_ms_p50"] <= 2000
    assert measured.figures["events_per_answer"] == 3


async def test_probes_keep_their_rate_while_pictures_pour() -> None:
    engine = ScriptedEngine(pause=0.05)
    async with scripted_gateway(engine) as gateway:
        probes = workloads.text(MODEL, 10, concurrency=1)
        plan = Mixed(tuple(ask for (ask,) in probes.conversations), 20.0, small_pictures(60))
        measured = await load.measure(plan, port_of(gateway.url))
    # The tenth probe is due at 0.45 s, and takes three pauses.
    assert measured.seconds >= 0.6
    assert measured.figures["pictures_per_s"] > 0
    assert measured.figures["ttft_ms_p50"] >= 50
    assert measured.failures == ()


async def test_a_probe_that_had_to_wait_is_timed_from_when_it_was_due() -> None:
    sent: list[float] = []

    async def send(_: bytes) -> Any:
        await asyncio.sleep(0)
        sent.append(asyncio.get_running_loop().time())
        return Exchange(sent=float("nan"))

    exchanges, lag = await load.open_loop(send, [Ask(b"")] * 3, rate=20)
    assert [round(after.sent - exchanges[0].sent, 6) for after in exchanges] == [0.0, 0.05, 0.1]
    assert 0 <= lag < 1


async def test_the_clients_process_builds_and_runs_what_it_is_told() -> None:
    def ask(port: int) -> Measured:
        with client.LoadClient(MODEL, quick=True) as process:
            process.prepare(["text-1"])
            return process.run("text-1", port)

    async with scripted_gateway(ScriptedEngine()) as gateway:
        measured = await asyncio.to_thread(ask, port_of(gateway.url))
    assert (measured.requests, measured.failures) == (WORKLOADS["text-1"].size.quick, ())
    assert measured.client_share > 0


async def test_a_refused_request_is_counted_and_told() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        plan = workloads.text("another-model", 2, concurrency=1)
        measured = await load.measure(plan, port_of(gateway.url))
    assert len(measured.failures) == 2
    assert measured.failures[0].startswith("404: ")


async def test_a_connection_that_breaks_is_an_error_and_not_a_wait() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
        with pytest.raises(ConnectionError):
            await connection.ask(b"GET / HTTP/1.1\r\n\r\n")
        connection.close()
