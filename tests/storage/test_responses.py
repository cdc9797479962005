"""Stored responses: visible to their caller only, chained, bounded, and deleted after their time."""

import time

import pytest

from gateway.errors import InvalidValue, NotFound, PreviousResponseNotFound
from gateway.storage.database import Connection, Database
from gateway.storage.expiry import delete_expired
from gateway.storage.responses import UNFINISHED_TTL, ResponseStore
from gateway.storage.stored_history import LONGEST, StoredItem, Wanted

TTL = 100


@pytest.fixture
def store(database: Database) -> ResponseStore:
    return ResponseStore(database, TTL, max_bytes=1000)


async def put(
    store: ResponseStore,
    name: str,
    before: str | None = None,
    caller: str = "me",
    images: dict[int, str] | None = None,
) -> None:
    """Store a response with two items: its name with `?`, and its name with `!` as the output."""
    await store.begin(caller, name, before, [StoredItem(f"q_{name}", f'"{name}?"'.encode(), images or {})])
    answer = StoredItem(f"a_{name}", f'"{name}!"'.encode(), is_output=True)
    await store.finish(caller, name, f'"{name}"'.encode(), [answer])


async def said(
    store: ResponseStore, name: str, *, output: bool = True, images: int | None = None
) -> list[str]:
    wanted = Wanted("me", name, output=output, max_images=images)
    return [item.json.decode().strip('"') for item in await store.conversation(wanted)]


async def test_response_is_found_and_deleted(store: ResponseStore) -> None:
    await put(store, "a")
    assert await store.body("me", "a") == b'"a"'
    await store.delete("me", "a")
    with pytest.raises(NotFound, match="no response 'a' is stored"):
        await store.body("me", "a")
    with pytest.raises(NotFound):
        await store.delete("me", "a")


async def test_a_caller_sees_only_its_own_responses(store: ResponseStore) -> None:
    await put(store, "a")
    await put(store, "b", "a", caller="other")
    for refused in (store.body("other", "a"), store.delete("other", "a")):
        with pytest.raises(NotFound):
            await refused
    for name in ("a", "b"):  # `b` names a response of mine
        with pytest.raises(PreviousResponseNotFound):
            await store.conversation(Wanted("other", name))
    assert await store.items("other", ["q_a"]) == {}
    assert await said(store, "a") == ["a?", "a!"]


async def test_conversation_is_the_chain_from_its_beginning(store: ResponseStore) -> None:
    for name, before in (("a", None), ("b", "a"), ("x", "a"), ("c", "b")):
        await put(store, name, before)
    assert await said(store, "c") == ["a?", "a!", "b?", "b!", "c?", "c!"]
    assert await said(store, "x") == ["a?", "a!", "x?", "x!"]
    assert await said(store, "c", output=False) == ["a?", "a!", "b?", "b!", "c?"]


async def test_conversation_without_its_beginning_is_not_continued(store: ResponseStore) -> None:
    for name, before in (("a", None), ("b", "a"), ("c", "b")):
        await put(store, name, before)
    await store.delete("me", "a")
    with pytest.raises(PreviousResponseNotFound, match="no response 'a' is stored") as caught:
        await store.conversation(Wanted("me", "c"))
    assert caught.value.param == "previous_response_id"


async def test_only_the_newest_images_are_read(store: ResponseStore) -> None:
    await put(store, "a", images={0: "data:a0", 2: "data:a2"})
    await put(store, "b", "a", images={1: "data:b1"})
    for count, expected in (
        (None, [{0: "data:a0", 2: "data:a2"}, {1: "data:b1"}]),
        (2, [{2: "data:a2"}, {1: "data:b1"}]),
        (1, [{}, {1: "data:b1"}]),
        (0, [{}, {}]),
    ):
        items = await store.conversation(Wanted("me", "b", max_images=count))
        assert [item.images for item in items if not item.is_output] == expected


async def test_items_are_found_by_their_ids_with_their_images(store: ResponseStore) -> None:
    await put(store, "a", images={1: "data:a"})
    found = await store.items("me", ["a_a", "q_a", "q_b"])
    assert found == {
        "a_a": StoredItem("a_a", b'"a!"', is_output=True),
        "q_a": StoredItem("q_a", b'"a?"', {1: "data:a"}),
    }


async def test_conversation_of_too_many_bytes_is_refused_with_the_numbers(store: ResponseStore) -> None:
    await put(store, "a", images={0: "x" * 600})
    await put(store, "b", "a", images={0: "x" * 600})
    with pytest.raises(InvalidValue, match="the conversation has 1216 bytes; the limit is 1000"):
        await store.conversation(Wanted("me", "b"))
    assert len(await store.conversation(Wanted("me", "b", max_images=1))) == 4


async def test_conversation_of_too_many_responses_is_refused(database: Database) -> None:
    store = ResponseStore(database, TTL, max_bytes=10**6)

    def put_all(connection: Connection) -> None:
        connection.executemany(
            "INSERT INTO responses (id, caller, previous_id, body, expires_at) VALUES (?, 'me', ?, ?, ?)",
            [
                (str(number), str(number - 1) if number else None, b"1", int(time.time()) + TTL)
                for number in range(LONGEST + 1)
            ],
        )

    await database.write(put_all)
    assert await store.conversation(Wanted("me", str(LONGEST - 1))) == []
    with pytest.raises(InvalidValue, match="has over 1000 responses"):
        await store.conversation(Wanted("me", str(LONGEST)))


async def test_an_expired_response_is_not_found_and_then_deleted(
    database: Database, store: ResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, "a", images={0: "data:a"})
    now = time.time()
    monkeypatch.setattr("gateway.storage.responses.time.time", lambda: now + TTL + 1)
    with pytest.raises(NotFound):
        await store.body("me", "a")
    with pytest.raises(PreviousResponseNotFound):
        await store.conversation(Wanted("me", "a"))
    assert await store.items("me", ["q_a"]) == {}
    await delete_expired(database, int(now + TTL + 1))
    left = await database.read(
        lambda connection: [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("responses", "response_items", "response_images")
        ]
    )
    assert left == [0, 0, 0]


async def test_continuing_a_conversation_keeps_all_of_it(
    store: ResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    await put(store, "a")
    monkeypatch.setattr("gateway.storage.responses.time.time", lambda: now + TTL - 10)
    await put(store, "b", "a")
    monkeypatch.setattr("gateway.storage.responses.time.time", lambda: now + TTL + 10)
    assert await said(store, "b") == ["a?", "a!", "b?", "b!"]


async def test_unfinished_response_is_invisible_and_then_deleted(
    database: Database, store: ResponseStore
) -> None:
    await store.begin("me", "a", None, [StoredItem("q_a", b'"a?"', {0: "data:a"})])
    with pytest.raises(NotFound):
        await store.body("me", "a")
    with pytest.raises(NotFound):
        await store.delete("me", "a")
    with pytest.raises(PreviousResponseNotFound):
        await store.conversation(Wanted("me", "a"))
    assert await store.items("me", ["q_a"]) == {}
    assert await delete_expired(database, int(time.time()) + UNFINISHED_TTL + 1) == 1
    with pytest.raises(NotFound):
        await store.finish("me", "a", b'"a"', [])
