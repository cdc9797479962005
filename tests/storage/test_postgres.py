"""Gateways that share one PostgreSQL: what one stores the others know; the server may go and come back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import openai
import orjson
import psycopg
import pytest

from gateway.errors import StorageFull, StorageQuotaExceeded, StorageUnavailable
from gateway.storage.files import Files
from gateway.storage.postgres import Postgres, url_problem
from tests.api.asking import MODEL, chat
from tests.postgres import PASSWORD, Server
from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway

pytestmark = pytest.mark.slow
GIB = 2**30


@pytest.fixture
def url(server: Server) -> str:
    server.clear()
    return server.url


@asynccontextmanager
async def two_gateways(url: str) -> AsyncIterator[tuple[openai.AsyncOpenAI, openai.AsyncOpenAI]]:
    """Yield a client of each of two gateways that share what they store."""
    async with AsyncExitStack() as running:
        clients = []
        for _ in range(2):
            gateway = await running.enter_async_context(scripted_gateway(ScriptedEngine(), state_url=url))
            client = openai.AsyncOpenAI(base_url=gateway.api, api_key="none", max_retries=0)
            clients.append(await running.enter_async_context(client))
        yield clients[0], clients[1]


async def test_what_one_gateway_stores_the_other_knows(url: str) -> None:
    async with two_gateways(url) as (one, other):
        file = await one.files.create(file=("notes.txt", b"x" * 3_000_000), purpose="user_data")
        assert (await other.files.content(file.id)).content == b"x" * 3_000_000
        first = await one.responses.create(model=MODEL, input="Remember this.")
        second = await other.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
        items = await one.responses.input_items.list(second.id)
        assert len(items.data) == 3  # both questions and the first answer
        await other.files.delete(file.id)
        with pytest.raises(openai.NotFoundError):
            await one.files.retrieve(file.id)


async def test_a_batch_made_at_one_is_run_once_and_read_at_the_other(url: str) -> None:
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": chat()}
        for n in range(20)
    ]
    async with two_gateways(url) as (one, other):
        file = await other.files.create(
            file=("in.jsonl", b"\n".join(map(orjson.dumps, lines))), purpose="batch"
        )
        batch = await other.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        async with asyncio.timeout(30):
            while (batch := await one.batches.retrieve(batch.id)).status != "completed":  # noqa: ASYNC110  # it knows no event
                await asyncio.sleep(0.05)
        results = (await other.files.content(batch.output_file_id or "")).content.splitlines()
    assert sorted(int(orjson.loads(line)["custom_id"]) for line in results) == list(range(20))


async def test_a_server_that_is_killed_is_a_503_and_then_used_again(
    server: Server, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        scripted_gateway(ScriptedEngine(), state_url=url) as gateway,
        openai.AsyncOpenAI(base_url=gateway.api, api_key="none", max_retries=0) as client,
    ):
        file = await client.files.create(file=("notes.txt", b"kept"), purpose="user_data")
        server.kill()
        try:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.files.retrieve(file.id)
        finally:
            server.start()
        assert (caught.value.status_code, caught.value.code) == (503, "storage_unavailable")
        assert (await client.files.content(file.id)).content == b"kept"
    logged = capsys.readouterr().out
    assert "storage_failed" in logged
    assert PASSWORD not in logged
    assert "a%20password" not in logged


async def test_several_gateways_start_at_once(url: str) -> None:
    opened = [Postgres(url, GIB) for _ in range(4)]
    counted = await asyncio.gather(*(Files(database).count("ann") for database in opened))
    for database in opened:
        await database.close()
    assert counted == [0] * 4


async def test_limits_hold_and_deleting_makes_room(url: str) -> None:
    database = Postgres(url, 3_000_000, 2_000_000)
    files = Files(database)
    mine = await files.begin("ann", "a")
    await mine.write(b"x" * 1_000_000)
    with pytest.raises(StorageQuotaExceeded):
        await mine.write(b"x" * 1_000_000)
    theirs = await files.begin("bob", "b")
    await theirs.write(b"x" * 1_000_000)
    with pytest.raises(StorageFull):
        await theirs.write(b"x" * 999_000)
    await mine.drop()
    await theirs.write(b"x" * 900_000)
    await database.close()


async def test_one_gateway_runs_the_batches_until_it_ends(url: str) -> None:
    one, other = Postgres(url, GIB), Postgres(url, GIB)
    assert [await one.claim_batches(), await one.claim_batches(), await other.claim_batches()] == [
        True,
        True,
        False,
    ]
    await one.close()
    deadline = time.monotonic() + 10
    while not await other.claim_batches():
        assert time.monotonic() < deadline
    await other.close()


async def test_a_newer_gateways_database_is_left_alone(url: str) -> None:
    first = Postgres(url, GIB)
    await Files(first).count("ann")
    await first.close()
    with psycopg.connect(url) as session:
        session.execute("UPDATE llava_gateway.schema_version SET version = 99")
    older = Postgres(url, GIB)
    with pytest.raises(
        StorageUnavailable, match="the database has version 99; this gateway supports up to 1"
    ):
        await Files(older).count("ann")
    await older.close()


@pytest.mark.parametrize("wrong", ["mysql://db/llava", "postgresql://host:port:5432/db?nonsense=1", "db"])
def test_a_wrong_url_is_refused_without_being_shown(wrong: str) -> None:
    assert url_problem(wrong) == "GATEWAY_STATE_URL: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
