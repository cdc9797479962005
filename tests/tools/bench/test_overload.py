"""The open loop sends when a request is due, whatever comes back, and goodput counts what is good in time."""

import asyncio
import os
from itertools import pairwise
from statistics import fmean
from time import perf_counter

import pytest

from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import scripted_gateway, until
from tools.bench import overload
from tools.bench.bodies import Requests, endless
from tools.bench.connection import Exchange
from tools.bench.overload import KIND, PATIENT, Offered, Sent
from tools.bench.servers import Server

ANSWER = (
    b'data: {"choices":[{"delta":{"content":"A"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
)


def texts() -> Requests:
    return endless(KIND, MODEL.name, PATIENT)


async def test_a_server_that_never_answers_gets_every_request_when_it_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overload, "WITHIN", 0.5)
    began, arrived, gone = perf_counter(), list[float](), list[float]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"X-Stainless-Read-Timeout: 2\r\n" in head
        arrived.append(perf_counter() - began)
        while await reader.read(2**16):
            pass
        gone.append(perf_counter() - began)
        writer.close()

    due = [0.1 * number for number in range(10)]
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sent, lag = await overload.open_loop(port, texts(), [began + at for at in due])
        await until(lambda: len(gone) == len(due))
    late = [came - at for came, at in zip(arrived, due, strict=True)]
    assert min(late) >= 0
    # The longest lag is the client's own part of the longest delay.
    assert 0 <= lag <= max(late)
    # In a closed loop each would wait for the one before to be given up: the last would be 3.6 s late.
    assert max(late) < 0.45
    assert gone == pytest.approx([at + 0.5 for at in due], abs=0.45)  # No client waits longer.
    assert all(one.given_up for one in sent)


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    found = overload.arrivals(200.0, 50.0)
    assert found == sorted(found)
    assert 49 < found[-1] < 50
    assert len(found) == pytest.approx(200 * 50, rel=0.03)
    gaps = [late - early for early, late in pairwise(found)]
    mean = fmean(gaps)
    assert fmean((gap - mean) ** 2 for gap in gaps) == pytest.approx(mean**2, rel=0.1)  # not evenly spaced


def sent(due: float, took: float, status: int = 200, body: bytes = ANSWER, *, given_up: bool = False) -> Sent:
    return Sent(due, Exchange(due, due + took, status, [(due + took, body)]), given_up)


def test_goodput_is_complete_answers_within_the_time_that_the_client_waits() -> None:
    found = overload.count(
        [
            sent(0.9, 0.1),  # due before the window
            sent(1.0, 0.5),
            sent(2.9, 1.9),  # ends after the window
            sent(1.0, 2.1),  # after the client's time
            sent(1.1, 2.0, given_up=True),
            sent(1.2, 0.010, 503, b"{}"),
            sent(1.2, 0.030, 429, b"{}"),
            sent(1.3, 0.1, 500, b"{}"),
            sent(1.4, 0.1, 200, ANSWER[:40] + b"\n\n"),  # breaks off
            sent(3.0, 0.1),  # due after the window
        ],
        1.0,
        3.0,
    )
    assert (found.sent, found.good, found.late, found.refused, found.failed) == (8, 2, 1, 2, 3)
    assert found.goodput == 1.0
    assert found.refusal_ms_p50 == pytest.approx(10)
    assert found.refusal_ms_p99 == pytest.approx(30)
    assert found.good_ms_p99 == pytest.approx(1900)


def offered(good: int, refused: int, late: int, cpu: float) -> Offered:
    return Offered(1, 1, 10, good + refused + late, good, late, refused, 0, 1, 1, 1, cpu, 0)


def test_a_refusal_costs_what_is_left_when_the_answers_are_paid() -> None:
    calm, flooded = offered(100, 0, 0, 2.0), offered(150, 400, 100, 3.5)
    assert overload.refusal_cpu_ms(calm, flooded) == pytest.approx(1.0)
    assert overload.refusal_cpu_ms(calm, calm) is None


async def test_a_gateway_under_overload_is_measured() -> None:
    # 2 at once, each for 0.15 s: 13 a second. 40 a second are offered, and the queue has one place.
    engine = ScriptedEngine(pause=0.05)
    async with scripted_gateway(engine, max_running=2, max_waiting=1) as gateway:
        server = Server("ours", int(gateway.url.rpartition(":")[2]), os.getpgid(0), 0.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(overload, "FILL", 0.3)
            patch.setattr(overload, "WITHIN", 0.6)
            found = await overload.measure(server, texts(), 3.0, 40.0, 1.5)
    assert found.sent == pytest.approx(60, abs=20)
    assert found.good + found.late + found.refused == found.sent
    assert 5 < found.goodput < 15
    assert found.refused > 15
