"""A chat's k-th turn has k images and all that was said, and growth compares its ends."""

import os

import orjson
import pytest

from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.validation import parse
from tests.scripted_engine import MODEL, ScriptedEngine
from tests.servers import scripted_gateway
from tools.bench import servers, turns
from tools.bench.turns import Turn


def small(name: str, count: int) -> list[bytes]:
    return turns.chat(MODEL.name, name, count, (32, 24))


def test_each_turn_sends_all_before_it_again_and_a_new_image() -> None:
    bodies = [request.partition(b"\r\n\r\n")[2] for request in small("one", 3)]
    requests = [parse(body, ChatCompletionRequest) for body in bodies]
    assert [len(request.messages) for request in requests] == [1, 3, 5]
    earlier, later = (orjson.loads(body)["messages"] for body in bodies[1:])
    assert later[:3] == earlier
    urls = {message["content"][0]["image_url"]["url"] for message in later if message["role"] == "user"}
    assert len(urls) == 3
    assert small("two", 1) != small("one", 1)


async def test_a_chat_is_timed_turn_by_turn() -> None:
    async with scripted_gateway(ScriptedEngine(pause=0.02)) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        taken = await turns.hold(port, os.getpgid(0), small("one", 3))
    assert len(taken) == 3
    assert all(0.06 <= seconds < 5 for seconds, _ in taken)


async def test_a_turn_without_an_answer_is_an_error() -> None:
    async with scripted_gateway(ScriptedEngine(), max_images=2, image_history="strict") as gateway:
        with pytest.raises(ValueError, match="400: "):
            await turns.hold(int(gateway.url.rpartition(":")[2]), os.getpgid(0), small("one", 3))


def test_a_turns_time_is_the_median_and_its_cpu_time_the_mean_over_the_chats() -> None:
    given = ((1, 0.25), (2, 0.5), (9, 0.75))
    chats = [[(seconds, {"server": cpu, "engine core": 0.25})] for seconds, cpu in given]
    assert turns.by_turn(chats) == [Turn(1, 2000.0, 500.0, 250.0)]


def test_growth_is_the_last_turns_over_the_first() -> None:
    measured = [Turn(number, ms, 0, 0) for number, ms in enumerate((10, 10, 10, 99, 30, 30, 60), 1)]
    assert turns.growth(measured) == 4.0


def test_both_servers_allow_the_chats_images() -> None:
    theirs = servers.command("vllm", "demo", 1, 20)
    assert theirs[theirs.index("--limit-mm-per-prompt") + 1] == '{"image": 20}'
