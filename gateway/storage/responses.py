"""Stored responses: each has its own items and names the one before it; together they are a conversation.

Images are stored beside their items: of a long conversation only the newest are needed again.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from gateway.errors import InvalidValue, NotFound, PreviousResponseNotFound
from gateway.schema.paths import short
from gateway.storage.database import Database

LONGEST: Final = 1000  # responses in a conversation
MOST_REFERENCES: Final = 1000  # items of other responses in a request
UNFINISHED_TTL: Final = 3600  # seconds after which a response that never ended is deleted

# The response `:id` and those before it; `depth` is how long before.
_CHAIN = """
    WITH RECURSIVE chain (id, previous_id, depth) AS (
        SELECT id, previous_id, 0 FROM responses
        WHERE id = :id AND caller = :caller AND expires_at > :now AND body <> x''
        UNION ALL
        SELECT before.id, before.previous_id, depth + 1
        FROM chain JOIN responses AS before ON before.id = chain.previous_id
        WHERE before.caller = :caller AND before.expires_at > :now AND before.body <> x'' AND depth < :longest
    )
"""
# Its items and their images, the output of `:id` only where `:output` is true.
_ITEMS = """
    FROM chain JOIN response_items AS item ON item.response_id = chain.id
    WHERE (depth > 0 OR :output OR NOT is_output)
"""
_IMAGES = """
    FROM chain
    JOIN response_items AS item ON item.response_id = chain.id
    JOIN response_images AS image ON image.response_id = item.response_id AND image.place = item.place
    WHERE (depth > 0 OR :output OR NOT is_output)
    ORDER BY depth, image.place DESC, part DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item of a response in JSON without its images, and these by the number of their part.

    An image that was not asked for is not in `images`.
    """

    id: str
    json: bytes = field(repr=False)
    images: dict[int, str] = field(default_factory=dict, repr=False)
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of a conversation: up to the response `id`, its output included or not.

    Of its images the newest `max_images` are wanted, all where that is None.
    """

    caller: str
    id: str
    output: bool = True
    max_images: int | None = None


class ResponseStore:
    """Keeps responses for `ttl` seconds after they were last continued. A caller sees none but its own.

    A conversation of more than `max_bytes` is not read. All methods raise StorageUnavailable.
    """

    def __init__(self, database: Database, ttl: int, max_bytes: int) -> None:
        self._database = database
        self._ttl = ttl
        self._max_bytes = max_bytes

    async def begin(
        self,
        caller: str,
        response_id: str,
        previous_id: str | None,
        items: Sequence[StoredItem],
    ) -> None:
        """Store a response's input. It is invisible until it is finished. Raises StorageFull too."""
        pending = int(time.time()) + UNFINISHED_TTL
        work = partial(
            _begin,
            response_id=response_id,
            caller=caller,
            previous_id=previous_id,
            items=items,
            expires_at=pending,
        )
        await self._database.write(work)

    async def finish(self, caller: str, response_id: str, body: bytes, output: Sequence[StoredItem]) -> None:
        """Store the response in JSON and its output; those before it are kept for longer.

        Raises NotFound where it was begun too long ago, and StorageFull too.
        """
        now = int(time.time())
        work = partial(
            _finish,
            response_id=response_id,
            caller=caller,
            body=body,
            output=output,
            now=now,
            expires_at=now + self._ttl,
        )
        if not await self._database.write(work):
            raise _not_found(response_id)

    async def body(self, caller: str, response_id: str) -> bytes:
        """Return the response in JSON. Raises NotFound."""
        found = await self._database.read(
            lambda connection: connection.execute(
                "SELECT body FROM responses WHERE id = ? AND caller = ? AND expires_at > ? AND body <> x''",
                (response_id, caller, int(time.time())),
            ).fetchone()
        )
        if found is None:
            raise _not_found(response_id)
        body: bytes = found[0]
        return body

    async def delete(self, caller: str, response_id: str) -> None:
        """Delete the response; those after it can no longer be continued. Raises NotFound."""
        deleted = await self._database.write(
            lambda connection: (
                connection.execute(
                    "DELETE FROM responses WHERE id = ? AND caller = ? AND expires_at > ? AND body <> x''",
                    (response_id, caller, int(time.time())),
                ).rowcount
            )
        )
        if not deleted:
            raise _not_found(response_id)

    async def body_size(self, caller: str, response_id: str) -> int:
        """Return how many bytes `body` returns. Raises NotFound."""
        found = await self._database.read(
            lambda connection: connection.execute(
                "SELECT length(body) FROM responses"
                " WHERE id = ? AND caller = ? AND expires_at > ? AND body <> x''",
                (response_id, caller, int(time.time())),
            ).fetchone()
        )
        if found is None:
            raise _not_found(response_id)
        size: int = found[0]
        return size

    async def conversation_size(self, wanted: Wanted) -> int:
        """Return how many bytes `conversation` returns; raises what it does."""
        return await self._database.read(
            partial(_conversation_size, wanted=wanted, now=int(time.time()), max_bytes=self._max_bytes)
        )

    async def items_size(self, caller: str, ids: Sequence[str]) -> int:
        """Return how many bytes the items `ids` have, each as often as it is named.

        Raises InvalidValue where they are too many or too large.
        """
        if len(ids) > MOST_REFERENCES:
            raise InvalidValue(
                f"input: {len(ids)} items are referred to; the limit is {MOST_REFERENCES}", param="input"
            )
        size = await self._database.read(partial(_items_size, caller=caller, ids=ids, now=int(time.time())))
        if size > self._max_bytes:
            raise InvalidValue(
                f"input: the items referred to have {size} bytes; the limit is {self._max_bytes}",
                param="input",
            )
        return size

    async def conversation(self, wanted: Wanted) -> list[StoredItem]:
        """Return the conversation's items, the oldest first.

        Raises PreviousResponseNotFound for a response that is not stored (any more), and InvalidValue where
        the conversation is too long.
        """
        return await self._database.read(
            partial(_conversation, wanted=wanted, now=int(time.time()), max_bytes=self._max_bytes)
        )

    async def items(self, caller: str, ids: Sequence[str]) -> dict[str, StoredItem]:
        """Return those of the items `ids` that are stored, by their id."""
        return await self._database.read(partial(_by_id, caller=caller, ids=ids, now=int(time.time())))


def _not_found(response_id: str) -> NotFound:
    return NotFound(f"no response {short(response_id)!r} is stored", param="response_id")


def _begin(
    connection: sqlite3.Connection,
    *,
    response_id: str,
    caller: str,
    previous_id: str | None,
    items: Sequence[StoredItem],
    expires_at: int,
) -> None:
    connection.execute(
        "INSERT INTO responses (id, caller, previous_id, body, expires_at) VALUES (?, ?, ?, x'', ?)",
        (response_id, caller, previous_id, expires_at),
    )
    _add_items(connection, response_id, items, 0)


def _finish(
    connection: sqlite3.Connection,
    *,
    response_id: str,
    caller: str,
    body: bytes,
    output: Sequence[StoredItem],
    now: int,
    expires_at: int,
) -> bool:
    """Say whether the response was there to be finished."""
    if not connection.execute("UPDATE responses SET body = ? WHERE id = ?", (body, response_id)).rowcount:
        return False
    (place,) = connection.execute(
        "SELECT count(*) FROM response_items WHERE response_id = ?", (response_id,)
    ).fetchone()
    _add_items(connection, response_id, output, place)
    connection.execute(
        f"{_CHAIN} UPDATE responses SET expires_at = :expires_at WHERE id IN (SELECT id FROM chain)",
        _named(response_id, caller, now) | {"expires_at": expires_at},
    )
    return True


def _add_items(
    connection: sqlite3.Connection, response_id: str, items: Sequence[StoredItem], first: int
) -> None:
    """Add `items` to the response, the first of them at the place `first`."""
    placed = list(enumerate(items, first))
    connection.executemany(
        "INSERT INTO response_items (response_id, place, id, is_output, item) VALUES (?, ?, ?, ?, ?)",
        [(response_id, place, item.id, item.is_output, item.json) for place, item in placed],
    )
    connection.executemany(
        "INSERT INTO response_images (response_id, place, part, url) VALUES (?, ?, ?, ?)",
        # One by one: an item that is referred to many times holds its images once until here.
        (
            (response_id, place, part, url.encode())
            for place, item in placed
            for part, url in item.images.items()
        ),
    )


def _named(response_id: str, caller: str, now: int) -> dict[str, str | int]:
    return {"id": response_id, "caller": caller, "now": now, "longest": LONGEST}


def _wanted(wanted: Wanted, now: int) -> dict[str, str | int]:
    return _named(wanted.id, wanted.caller, now) | {
        "output": wanted.output,
        "limit": -1 if wanted.max_images is None else wanted.max_images,
    }


def _conversation_size(connection: sqlite3.Connection, wanted: Wanted, now: int, max_bytes: int) -> int:
    named = _wanted(wanted, now)
    before = connection.execute(f"{_CHAIN} SELECT previous_id FROM chain ORDER BY depth", named).fetchall()
    _check_chain(wanted.id, [previous for (previous,) in before])
    (text,) = connection.execute(f"{_CHAIN} SELECT total(length(item.item)) {_ITEMS}", named).fetchone()
    (images,) = connection.execute(
        f"{_CHAIN} SELECT total(size) FROM (SELECT length(url) AS size {_IMAGES})", named
    ).fetchone()
    if text + images > max_bytes:
        raise InvalidValue(
            f"previous_response_id: the conversation has {text + images:.0f} bytes; the limit is {max_bytes}",
            param="previous_response_id",
        )
    return int(text + images)


def _conversation(
    connection: sqlite3.Connection, wanted: Wanted, now: int, max_bytes: int
) -> list[StoredItem]:
    _conversation_size(connection, wanted, now, max_bytes)
    named = _wanted(wanted, now)
    urls: dict[tuple[str, int], dict[int, str]] = {}
    for response_id, place, part, url in connection.execute(
        f"{_CHAIN} SELECT image.response_id, image.place, part, url {_IMAGES}", named
    ):
        urls.setdefault((response_id, place), {})[part] = url.decode()
    return [
        StoredItem(item_id, item, urls.get((response_id, place), {}), bool(is_output))
        for response_id, place, item_id, is_output, item in connection.execute(
            f"{_CHAIN} SELECT response_id, place, item.id, is_output, item.item {_ITEMS}"
            " ORDER BY depth DESC, place",
            named,
        )
    ]


def _check_chain(response_id: str, before: list[str | None]) -> None:
    """Raise where the chain from the response has no beginning; its responses name those `before` them."""
    if len(before) > LONGEST:
        raise InvalidValue(
            f"previous_response_id: the conversation has over {LONGEST} responses; start a new one",
            param="previous_response_id",
        )
    missing = before[-1] if before else response_id
    if missing is not None:
        raise PreviousResponseNotFound(
            f"previous_response_id: no response {short(missing)!r} is stored", param="previous_response_id"
        )


def _items_size(connection: sqlite3.Connection, caller: str, ids: Sequence[str], now: int) -> int:
    size = 0
    for each, times in Counter(ids).items():
        row = connection.execute(
            "SELECT length(item) + (SELECT total(length(url)) FROM response_images AS image"
            " WHERE image.response_id = item.response_id AND image.place = item.place)"
            " FROM response_items AS item JOIN responses ON responses.id = response_id"
            " WHERE item.id = ? AND caller = ? AND expires_at > ? AND body <> x'' LIMIT 1",
            (each, caller, now),
        ).fetchone()
        size += times * int(row[0]) if row else 0
    return size


def _by_id(
    connection: sqlite3.Connection, caller: str, ids: Sequence[str], now: int
) -> dict[str, StoredItem]:
    found = {}
    for each in ids:
        row = connection.execute(
            "SELECT response_id, place, item, is_output FROM response_items AS item"
            " JOIN responses ON responses.id = response_id"
            " WHERE item.id = ? AND caller = ? AND expires_at > ? AND body <> x'' LIMIT 1",
            (each, caller, now),
        ).fetchone()
        if row is None:
            continue
        response_id, place, item, is_output = row
        images = connection.execute(
            "SELECT part, url FROM response_images WHERE response_id = ? AND place = ?", (response_id, place)
        )
        found[each] = StoredItem(each, item, {part: url.decode() for part, url in images}, bool(is_output))
    return found
