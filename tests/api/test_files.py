"""`/v1/files` through OpenAI's own client, and byte by byte where that would hide something."""

import asyncio
import sqlite3
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from openai.types import FileObject

from gateway.storage.database import NAME
from tests.api.asking import ask, sdk, send
from tests.api.wire import connected, head
from tests.each import each
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway, until

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20


@pytest.fixture(scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    async with scripted_gateway(ScriptedEngine(), upload_max_bytes=3_000_000, max_uploads=2) as running:
        yield running


@pytest.fixture
async def clients(gateway: Gateway) -> AsyncIterator[Callable[[str], openai.AsyncOpenAI]]:
    """Yield what makes a client of one's own name, and close them all."""
    async with AsyncExitStack() as held:
        made = {}

        def client(name: str) -> openai.AsyncOpenAI:
            if name not in made:
                made[name] = sdk(gateway, api_key=f"sk-{name}")
                held.push_async_callback(made[name].close)
            return made[name]

        yield client


Clients = Callable[[str], openai.AsyncOpenAI]


def form(*parts: tuple[str, str | None, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """Return a form of (name, file name, content), with the boundary `b`."""
    body = b""
    for name, filename, content in parts:
        named = "" if filename is None else f'; filename="{filename}"'
        body += f'--b\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + end


async def post(
    gateway: Gateway, content: bytes, kind: str = "multipart/form-data; boundary=b", **headers: str
) -> Any:
    return await send(gateway, "POST", "/v1/files", content=content, headers=headers | {"content-type": kind})


async def test_file_is_uploaded_listed_read_and_deleted(clients: Clients) -> None:
    client = clients("life")
    before = int(time.time())
    made = await client.files.create(file=("a picture ü.png", PNG), purpose="vision")
    assert made.to_dict() == {
        "id": made.id,
        "object": "file",
        "bytes": len(PNG),
        "created_at": made.created_at,
        "expires_at": None,
        "filename": "a picture ü.png",
        "purpose": "vision",
        "status": "processed",
        "status_details": None,
    }
    assert set(made.to_dict()) == set(FileObject.model_fields)  # no key more or less than OpenAI's
    assert made.id.startswith("file-")
    assert before <= made.created_at <= time.time()
    assert await client.files.retrieve(made.id) == made
    assert [file async for file in client.files.list()] == [made]
    content = await client.files.content(made.id)
    assert content.read() == PNG
    assert content.response.headers["content-type"] == "application/octet-stream"
    assert content.response.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''a%20picture%20%C3%BC.png"
    )
    assert content.response.headers["x-content-type-options"] == "nosniff"
    deleted = await client.files.delete(made.id)
    assert deleted.to_dict() == {"id": made.id, "object": "file", "deleted": True}
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)
    assert [file async for file in client.files.list()] == []


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 2_999_999, 3_000_000])
async def test_content_is_what_was_uploaded_whatever_its_size(clients: Clients, size: int) -> None:
    client = clients("somebody")
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    made = await client.files.create(file=("x", content), purpose="user_data")
    assert made.bytes == size
    assert (await client.files.content(made.id)).read() == content


TRICKY = b"\r\n--\r\n--B\r\n-b\r\n\r\n--"


async def test_content_that_looks_like_a_boundary_is_content(gateway: Gateway) -> None:
    answer = await post(gateway, form(VISION, ("file", "x", TRICKY)))
    assert answer.status == 200
    content = await send(gateway, "GET", f"/v1/files/{orjson.loads(answer.body)['id']}/content")
    assert content.body == TRICKY


async def test_list_is_paged_in_both_orders_and_filtered(clients: Clients) -> None:
    client = clients("list")
    made = [
        await client.files.create(file=(str(n), b"x"), purpose="vision" if n % 2 else "user_data")
        for n in range(5)
    ]
    names = [file.filename async for file in client.files.list(limit=2)]
    assert names == ["4", "3", "2", "1", "0"]
    assert [file.filename async for file in client.files.list(limit=2, order="asc")] == names[::-1]
    assert [file.filename async for file in client.files.list(purpose="vision")] == ["3", "1"]
    page = await client.files.list(after=made[2].id, limit=1)
    assert ([file.filename for file in page.data], page.has_more) == (["1"], True)


async def test_a_long_list_does_not_keep_the_event_loop_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.watching.note", lambda *_: None)  # it takes a second
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path) as gateway, sdk(gateway) as client:
        first = await client.files.create(file=("0", b"x"), purpose="vision")
        with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
            connection.execute(
                "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 9999)"
                " INSERT INTO files (id, caller, filename, purpose, bytes, complete, created_at)"
                " SELECT 'file-' || n, caller, n, purpose, 1, 1, 1 FROM files, n"
            )
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            longest = 0.0
            while True:
                before = time.thread_time()  # CPU time: however busy this machine is
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - before)

        for last_round in (*[False] * 4, True):  # other processes slow single rounds down
            watching = asyncio.create_task(watch())
            answer = await asyncio.to_thread(_get, f"{gateway.url}/v1/files", "Bearer sk-secret")
            watching.cancel()
            page = orjson.loads(answer)
            assert [len(page["data"]), page["has_more"], page["last_id"]] == [10_000, False, first.id]
            if longest < 0.015 or last_round:
                break
        assert longest < 0.015  # seconds; 0.027 when it was made in one piece


def _get(url: str, key: str) -> bytes:
    asked = urllib.request.Request(url, headers={"authorization": key})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        content: bytes = answer.read()
    return content


async def test_nobody_sees_anothers_files(clients: Clients) -> None:
    mine, other = clients("mine"), clients("other")
    made = await mine.files.create(file=("x", b"secret"), purpose="vision")
    for attempt in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            await attempt(made.id)
        assert caught.value.body == {
            "message": f"no such file: {made.id}",
            "type": "invalid_request_error",
            "param": "file_id",
            "code": "not_found",
        }
    with pytest.raises(openai.BadRequestError, match="no such file"):
        await other.files.list(after=made.id)
    assert [file async for file in other.files.list()] == []
    assert (await mine.files.content(made.id)).read() == b"secret"


async def test_file_expires_when_it_was_asked_to(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    client = clients("expire")
    made = await client.files.create(
        file=("x", b"x"), purpose="vision", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    now = time.time()
    monkeypatch.setattr("gateway.storage.files.time.time", lambda: now + 3601)
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)
    assert [file async for file in client.files.list()] == []


async def test_batch_file_is_kept_for_30_days(clients: Clients) -> None:
    made = await clients("somebody").files.create(file=("x.jsonl", b"{}"), purpose="batch")
    assert made.expires_at == made.created_at + 30 * 86400


PICTURE = ("file", "x.png", b"x")
VISION = ("purpose", None, b"vision")
SOON = (("expires_after[anchor]", None, b"created_at"), ("expires_after[seconds]", None, b"3599"))
MANY = [(f"field-{number}", None, b"") for number in range(30)]
MISSING, INVALID, UNKNOWN = "missing_required_parameter", "invalid_value", "unknown_parameter"
LARGE = "request_too_large"

# form: code, param, part of the message
REFUSED = [
    (form(VISION), MISSING, "file", "this field is required"),
    (form(PICTURE), MISSING, "purpose", "this field is required"),
    (form(("purpose", None, b"fine-tune"), PICTURE), INVALID, "purpose", "'batch', 'user_data'"),
    (form(VISION, PICTURE, PICTURE), INVALID, "file", "there must be one file"),
    (form(VISION, PICTURE, ("mask", "x", b"x")), UNKNOWN, "mask", "no such file field"),
    (form(VISION, ("colour", None, b"red"), PICTURE), UNKNOWN, "colour", "no such parameter"),
    (form(("purpose", None, b"x" * 2000), PICTURE), INVALID, "purpose", "limit of 1024 bytes"),
    (form(*MANY), INVALID, None, "the limit of 20"),
    (form(*[MANY[0]] * 30), INVALID, None, "the limit of 20"),
    (form(VISION, PICTURE, end=b""), INVALID, None, "it ends too early"),
    (b"no form", INVALID, None, "not valid multipart/form-data"),
    (b"", INVALID, None, "it ends too early"),
    (form(VISION, ("file", "x", bytes(3_000_001))), LARGE, "file", "limit of 3000000 bytes"),
    (form(VISION, ("file", "x", bytes(3_100_000))), LARGE, None, "the limit is 3065536"),
    (form(VISION, *SOON, PICTURE), INVALID, "expires_after.seconds", "or equal to 3600; got 3599"),
    (form(VISION, SOON[1], PICTURE), MISSING, "expires_after.anchor", "required"),
    (form(VISION, ("expires_after", None, b"1"), PICTURE), INVALID, "expires_after", "an object"),
]


@each("row", REFUSED)
async def test_bad_form_is_refused_by_name_and_leaves_nothing(
    gateway: Gateway, clients: Clients, row: tuple[bytes, str, str | None, str]
) -> None:
    content, code, param, message = row
    headers = {"content-type": "multipart/form-data; boundary=b", "authorization": "Bearer sk-bad"}
    answer = await send(gateway, "POST", "/v1/files", content=content, headers=headers)
    assert (answer.status, answer.error["code"]) == (413 if code == LARGE else 400, code), answer.body
    assert answer.error["param"] == param
    assert message in answer.error["message"]
    assert [file async for file in clients("bad").files.list()] == []


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", f"multipart/form-data; boundary={'b' * 300}"]
)
async def test_other_content_types_are_refused(gateway: Gateway, kind: str) -> None:
    answer = await post(gateway, form(VISION, PICTURE), kind)
    assert (answer.status, answer.error["code"]) == (400, "invalid_value")


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("limit=0", "invalid_value", "limit"),
        ("limit=10001", "invalid_value", "limit"),
        ("limit=many", "invalid_value", "limit"),
        ("limit=9999999999999999999999", "invalid_value", "limit"),
        ("order=up", "invalid_value", "order"),
        ("purpose=fine-tune", "invalid_value", "purpose"),
        ("after=file-none", "invalid_value", "after"),
        ("before=file-none", "unknown_parameter", "before"),
    ],
)
async def test_bad_query_is_refused_by_name(gateway: Gateway, query: str, code: str, param: str) -> None:
    answer = await send(gateway, "GET", f"/v1/files?{query}")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, code, param)


LINES = ("content-type: multipart/form-data; boundary=b", "content-length: 9000000")
REST = form(VISION, ("file", "x", bytes(2_500_000)))[:-9]
HALF_OF_EVE = head("POST", "/v1/files", *LINES, "authorization: Bearer eve") + REST
HALF = head("POST", "/v1/files", *LINES) + REST


async def test_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path, max_uploads=1) as gateway:
        async with connected(gateway) as connection:
            await connection.send(HALF)
            await until(lambda: _rows(tmp_path, "file_chunks") == 2)
        await until(lambda: _rows(tmp_path, "files") == 0)
        assert _rows(tmp_path, "file_chunks") == 0
        assert (await post(gateway, form(VISION, PICTURE))).status == 200  # its place is free again


async def test_uploads_at_once_are_bounded(tmp_path: Path) -> None:
    settings = {"state_dir": tmp_path, "max_uploads": 1, "max_wait": 0.2}
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway, connected(gateway) as connection:
        await connection.send(HALF)
        await until(lambda: _rows(tmp_path, "file_chunks") == 2)
        answer = await post(gateway, form(VISION, PICTURE))
        assert (answer.status, answer.error["code"]) == (503, "overloaded")


async def test_a_flood_of_slow_uploads_leaves_a_place_for_others(tmp_path: Path) -> None:
    settings = {"state_dir": tmp_path, "max_uploads": 3, "max_wait": 0.2, "api_keys": "eve:eve,ann:ann"}
    eve, ann = ({"authorization": f"Bearer {name}"} for name in ("eve", "ann"))
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway, AsyncExitStack() as held:
        for _ in range(3):
            connection = await held.enter_async_context(connected(gateway))
            await connection.send(HALF_OF_EVE)
        await until(lambda: _rows(tmp_path, "file_chunks") == 4)  # two of them, at 2 chunks each
        assert (await post(gateway, form(VISION, PICTURE), **eve)).status == 503
        assert (await post(gateway, form(VISION, PICTURE), **ann)).status == 200


async def test_slow_upload_is_ended(tmp_path: Path) -> None:
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path, upload_timeout=0.3) as gateway:
        async with connected(gateway) as connection:
            await connection.send(HALF)
            answer = await connection.answer()
            assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        await until(lambda: _rows(tmp_path, "files") == 0)


async def test_full_storage_is_507_and_deleting_makes_room(tmp_path: Path) -> None:
    settings = {"state_dir": tmp_path, "state_max_bytes": 3 * 2**20}
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway, sdk(gateway) as client:
        made = await client.files.create(file=("x", bytes(2 * 2**20)), purpose="vision")
        with pytest.raises(openai.InternalServerError) as caught:
            await client.files.create(file=("y", bytes(2 * 2**20)), purpose="vision")
        assert (caught.value.status_code, caught.value.code) == (507, "storage_full")
        assert [file.filename async for file in client.files.list()] == ["x"]
        await client.files.delete(made.id)
        await client.files.create(file=("y", bytes(2 * 2**20)), purpose="vision")


async def test_without_a_state_directory_only_what_stores_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path / "state") as gateway:
        answer = await post(gateway, form(VISION, PICTURE))
        assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert (await ask(gateway)).status == 200
        (tmp_path / "state").unlink()
        assert (await post(gateway, form(VISION, PICTURE))).status == 200


async def test_a_state_file_that_is_deleted_is_told_until_the_next_start(tmp_path: Path) -> None:
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path) as gateway:
        assert (await post(gateway, form(VISION, PICTURE))).status == 200
        (tmp_path / NAME).unlink()
        answers = [await post(gateway, form(VISION, PICTURE)) for _ in range(2)]
        answers.append(await send(gateway, "GET", "/v1/files"))
        assert [answer.status for answer in answers] == [503] * 3
        assert {answer.error["code"] for answer in answers} == {"storage_unavailable"}
        assert "the state file was moved or deleted" in answers[0].error["message"]
        assert (await ask(gateway)).status == 200
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path) as gateway:
        assert (await post(gateway, form(VISION, PICTURE))).status == 200


async def test_damaged_state_is_told_and_live_requests_are_answered(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"not a database at all" * 1000)
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path) as gateway:
        answer = await send(gateway, "GET", "/v1/files")
        assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
        assert answer.error["message"] == "nothing can be stored: the state file is damaged"
        assert (await ask(gateway)).status == 200


def _rows(folder: Path, table: str) -> int:
    if not (folder / NAME).exists():
        return 0
    connection = sqlite3.connect(folder / NAME)
    try:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    except sqlite3.OperationalError:  # It is being made.
        return 0
    finally:
        connection.close()
    return int(rows)
