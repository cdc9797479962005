"""The curve's load is a closed loop, its window counts what lies in it, and no request comes from a cache."""

import asyncio
import os
from itertools import islice
from pathlib import Path
from time import perf_counter

import orjson
import pybase64
import pytest

from gateway.images.decode import decode
from gateway.images.header import open_image
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.validation import parse
from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import scripted_gateway, until
from tools.bench import closed_loop, curve, figures
from tools.bench.bodies import KINDS, Kind, Requests, endless
from tools.bench.closed_loop import Point
from tools.bench.curve import Curve
from tools.bench.figures import Timeline
from tools.bench.offline_curve import unique

PAUSE = 0.05  # seconds before each of an answer's three words
SMALL = Kind("small", 3, (32, 24))


class Counting(ScriptedEngine):
    """Knows the most jobs that ever ran at once."""

    most = 0

    async def _pause(self) -> None:
        self.most = max(self.most, self.running)
        await super()._pause()


def texts() -> Requests:
    return endless(KINDS["text"], MODEL.name)


async def test_a_closed_loop_keeps_its_number_of_requests_at_once_and_leaves_none() -> None:
    engine = Counting(pause=PAUSE)
    async with scripted_gateway(engine) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        point = await closed_loop.measure(port, os.getpgid(0), texts(), 4, 0.6)
        assert engine.running == 0
    assert engine.most == 4
    assert (point.at_once, point.failures, point.silent, point.steady) == (4, (), 0, True)
    # Four answers of three tokens take 0.15 s and what the gateway adds.
    # The window may begin and end between two tokens, of each of the four.
    assert 10 < point.figures["tokens_per_s"] <= 4 * (point.seconds / PAUSE + 1) / point.seconds
    assert point.figures["ttft_ms_p50"] >= 1000 * PAUSE
    assert point.figures["gap_ms_p99"] >= 1000 * PAUSE
    assert point.requests <= 0.6 / (3 * PAUSE) * 4 + 4


async def test_a_server_that_never_answers_takes_no_longer_than_its_budget() -> None:
    connected: list[asyncio.StreamWriter] = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        await reader.read()  # until the client leaves
        writer.close()
        await writer.wait_closed()
        connected.remove(writer)

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        began = perf_counter()
        port = server.sockets[0].getsockname()[1]
        point = await closed_loop.measure(port, os.getpgid(0), texts(), 2, 0.1)
        took = perf_counter() - began
        await until(lambda: not connected)  # Nothing is left open, by the load or by this server.
    assert took < 0.1 * (closed_loop.WARM_UP + 1 + closed_loop.REST) + 2
    assert (point.steady, point.requests, point.figures["tokens_per_s"]) == (False, 0, 0.0)


async def test_refusals_are_failures() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        point = await closed_loop.measure(port, os.getpgid(0), endless(SMALL, "another-model"), 1, 0.2)
    assert point.failures[0].startswith("404: ")
    assert point.figures["tokens_per_s"] == 0


def test_a_window_counts_tokens_when_they_arrive_and_first_tokens_by_their_request() -> None:
    before = Timeline(sent=0.0, ended=4.0, content_at=(1.0, 2.0, 3.0), tokens=6)  # two tokens an event
    inside = Timeline(sent=2.5, ended=9.0, content_at=(4.5, 8.0), tokens=2)
    dropped = Timeline(sent=3.0, ended=9.0, content_at=(), tokens=None)
    measured = figures.of_window([before, inside, dropped], 2.0, 6.0)
    assert measured == {
        "tokens_per_s": (2 * 2 + 1) / 4,
        "ttft_ms_p50": 2000.0,
        "ttft_ms_p99": 6000.0,  # of the one that never came, so far
        "gap_ms_p99": 1000.0,
    }


@pytest.mark.parametrize("kind", [KINDS["text"], SMALL])
def test_no_two_requests_are_the_same_and_every_image_can_be_decoded(kind: Kind) -> None:
    bodies = [request.partition(b"\r\n\r\n")[2] for request in islice(endless(kind, MODEL.name), 20)]
    requests = [parse(body, ChatCompletionRequest) for body in bodies]
    assert {(request.max_tokens, request.min_tokens, request.stream) for request in requests} == {
        (kind.tokens, kind.tokens, True)
    }
    said = [orjson.dumps(orjson.loads(body)["messages"][0]["content"]) for body in bodies]
    assert len(set(said)) == 20
    if kind is SMALL:
        urls = [orjson.loads(content)[0]["image_url"]["url"] for content in said]
        for url in (urls[0], urls[-1]):
            data = pybase64.b64decode(url.partition(",")[2], validate=True)
            assert decode(open_image(data, max_pixels=10**6), shrink=1).pixels.size == (32, 24)


def test_the_engine_alone_gets_no_prompt_twice() -> None:
    class Job:
        token_ids = (1, 5, 6, 7)
        pictures = ()

    prompts = [tuple(prompt["prompt_token_ids"]) for prompt in islice(unique([Job(), Job()]), 2000)]  # type: ignore[list-item]
    assert len(set(prompts)) == 2000
    assert {(prompt[0], prompt[3], len(prompt)) for prompt in prompts} == {(1, 7, 4)}


def at(at_once: int, tokens: float, silent: int = 0, *, steady: bool = True) -> Point:
    figures = {"tokens_per_s": tokens, "ttft_ms_p50": 1.0, "ttft_ms_p99": 1.0, "gap_ms_p99": 1.0}
    return Point(at_once, 8.0, figures, {"server": 0.5}, {"server": 100.0}, 10, silent, steady)


def test_a_ratio_is_of_the_same_number_at_once_and_doubts_name_their_point() -> None:
    measured = Curve("demo", 8.0)
    measured.points["text"] = {
        "ours": [at(1, 30.0), at(8, 90.0)],
        "vllm": [at(1, 20.0, steady=False), at(8, 30.0, silent=2)],
        "engine": [at(8, 100.0)],
    }
    assert measured.ratios("text", "vllm", "tokens_per_s") == {1: 1.5, 8: 3.0}
    assert measured.ratios("text", "engine", "tokens_per_s") == {8: 0.9}
    assert curve.doubts(measured) == [
        "text, vllm, 1 at once: the warm-up was not complete",
        "text, vllm, 8 at once: 2 of 10 had no first token; TTFT is a lower bound",
    ]


def test_a_curve_is_written_with_its_chart(tmp_path: Path) -> None:
    measured = Curve("demo", 8.0)
    measured.points["text"] = {"ours": [at(1, 30.0)], "vllm": [at(1, 20.0)], "engine": [at(1, 40.0)]}
    curve.write(measured, tmp_path)
    written = orjson.loads((tmp_path / "curve.json").read_bytes())
    assert written["points"]["text"]["engine"][0]["figures"]["tokens_per_s"] == 40.0
    assert (tmp_path / "curve.png").stat().st_size > 10_000
