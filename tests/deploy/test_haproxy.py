"""Two replicas behind haproxy, with the configuration in deploy/."""

import asyncio
import itertools
import random
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from PIL import Image

from tests.api.asking import chat, image, saying, send, text
from tests.api.wire import CHAT
from tests.debian import require
from tests.haproxy import CONFIGURATION, haproxy
from tests.images.pictures import url_of
from tests.scripted_engine import ScriptedEngine
from tests.servers import PROMPTLY, Gateway, free_port, scripted_gateway, until

pytestmark = pytest.mark.slow

ANSWER = "".join(ScriptedEngine.words).strip()
BEHIND = {"trusted_proxies": "127.0.0.1", "client_address_header": "x-forwarded-for"}


class Replica:
    """A gateway on the scripted engine that can be stopped and started again on its port."""

    def __init__(self, **settings: Any) -> None:
        self.port = free_port()
        self.engine = ScriptedEngine(pause=0.03)
        self._settings = settings
        self._running = AsyncExitStack()

    async def start(self) -> None:
        self.engine = ScriptedEngine(pause=0.03)
        settings = BEHIND | self._settings
        await self._running.enter_async_context(scripted_gateway(self.engine, port=self.port, **settings))

    async def stop(self) -> None:
        await self._running.aclose()


@asynccontextmanager
async def two_replicas(folder: Path, **settings: Any) -> AsyncIterator[tuple[Gateway, list[Replica]]]:
    """Yield haproxy and the replicas behind it, once it sends requests to both."""
    replicas = [Replica(**settings), Replica(**settings)]
    async with AsyncExitStack() as running:
        for replica in replicas:
            running.push_async_callback(replica.stop)
            await replica.start()
        with haproxy(folder, [replica.port for replica in replicas], "100ms") as url:
            yield Gateway(url), replicas


async def ask_until(ended: asyncio.Event, gateway: Gateway, seen: Counter[str]) -> None:
    """Ask one question after the other on one connection, streamed and whole in turn; count what came."""
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        for number in itertools.count():
            if ended.is_set():
                return
            body = orjson.dumps(chat(stream=number % 2 == 0))
            try:
                answer = await client.post(f"{gateway.api}/chat/completions", content=body)
            except httpx2.HTTPError as error:
                seen[repr(error)] += 1
                continue
            seen["right" if said(answer) == ANSWER else f"{answer.status_code}: {answer.text[:200]}"] += 1


def said(answer: httpx2.Response) -> str | None:
    """Return the text of a whole or streamed answer, None where it is not complete."""
    if answer.status_code != 200:
        return None
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return str(answer.json()["choices"][0]["message"]["content"])
    if not answer.text.endswith("data: [DONE]\n\n"):
        return None
    events = [orjson.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


def test_haproxy_takes_the_configuration() -> None:
    command = [require("haproxy"), "-c", "-f", str(CONFIGURATION)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


async def test_a_rolling_restart_loses_no_request(tmp_path: Path) -> None:
    async with two_replicas(tmp_path, drain_delay=2, shutdown_timeout=5) as (gateway, replicas):
        ended, seen = asyncio.Event(), Counter[str]()
        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(ask_until(ended, gateway, seen))
            for replica in replicas:
                await asyncio.sleep(0.5)
                before = seen["right"]
                await replica.stop()
                assert seen["right"] > before  # the other one answered meanwhile
                await replica.start()
                # Both must be in turn again before the other one goes.
                await until(lambda replica=replica: len(replica.engine.jobs) > 5)  # type: ignore[misc]
            await until(lambda: seen["right"] > 100)
            ended.set()
        assert set(seen) == {"right"}


def turns(number: int) -> list[bytes]:
    """Return the bodies of a conversation's three turns about an image of its own."""
    noise = Image.frombytes("L", (90, 70), random.Random(number).randbytes(6300))
    messages = saying(image(url_of(noise)), text("What is it?"))
    bodies = []
    for _ in range(3):
        bodies.append(orjson.dumps(chat(messages=messages)))
        messages = [*messages, {"role": "assistant", "content": ANSWER}, *saying(text("Are you sure?"))]
    return bodies


async def answered_by(gateway: Gateway, replicas: list[Replica], body: bytes) -> int:
    """Return the place of the replica that answered."""
    before = [len(replica.engine.jobs) for replica in replicas]
    answer = await send(gateway, "POST", CHAT, content=body)
    assert answer.status == 200
    (place,) = (place for place, had in enumerate(before) if len(replicas[place].engine.jobs) > had)
    return place


async def test_a_conversation_stays_on_one_replica_and_moves_while_that_one_is_away(tmp_path: Path) -> None:
    conversations = [turns(number) for number in range(12)]
    async with two_replicas(tmp_path) as (gateway, replicas):
        for replica in replicas:
            replica.engine.pause = 0
        places = [
            {await answered_by(gateway, replicas, body) for body in conversation}
            for conversation in conversations
        ]
        assert [len(place) for place in places] == [1] * 12
        assert set.union(*places) == {0, 1}

        asked = next(
            conversation for conversation, place in zip(conversations, places, strict=True) if 0 in place
        )
        await replicas[0].stop()
        assert [await answered_by(gateway, replicas, body) for body in asked] == [1, 1, 1]
        await replicas[0].start()

        async with asyncio.timeout(PROMPTLY):
            while await answered_by(gateway, replicas, asked[2]) == 1:
                pass  # haproxy has not seen yet that it is back
        assert [await answered_by(gateway, replicas, body) for body in asked] == [0, 0, 0]


async def test_what_everybody_asks_at_once_reaches_both_replicas(tmp_path: Path) -> None:
    async with two_replicas(tmp_path) as (gateway, replicas):
        answers = await asyncio.gather(*(send(gateway, "POST", CHAT, content=turns(0)[0]) for _ in range(24)))
        assert [answer.status for answer in answers] == [200] * 24
        assert min(len(replica.engine.jobs) for replica in replicas) >= 4


async def test_a_client_that_leaves_haproxy_leaves_the_gateway(tmp_path: Path) -> None:
    async with two_replicas(tmp_path) as (gateway, replicas):
        for replica in replicas:
            replica.engine.pause = 30
        async with httpx2.AsyncClient(trust_env=False) as client:
            asked = asyncio.create_task(client.post(f"{gateway.api}/chat/completions", json=chat()))
            await until(lambda: sum(replica.engine.running for replica in replicas) == 1)
            asked.cancel()
        await until(lambda: sum(replica.engine.running for replica in replicas) == 0, PROMPTLY)


async def test_without_a_replica_haproxy_answers_with_openais_error(tmp_path: Path) -> None:
    with haproxy(tmp_path, [free_port(), free_port()], "100ms") as url:
        answer = await send(Gateway(url), "POST", CHAT, content=orjson.dumps(chat()))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.error["code"] == "unavailable"


async def test_what_a_dying_replica_had_not_answered_goes_to_the_other(tmp_path: Path) -> None:
    dropped = 0

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dropped
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /health/ready"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        else:
            dropped += 1
        writer.close()

    server = await asyncio.start_server(dying, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    alive = Replica()
    async with server, scripted_gateway(alive.engine, port=alive.port, **BEHIND):
        with haproxy(tmp_path, [port, alive.port], "100ms") as url:
            answers = [
                await send(Gateway(url), "POST", CHAT, content=turns(number)[0]) for number in range(6)
            ]
    assert [answer.status for answer in answers] == [200] * 6
    assert dropped > 0
