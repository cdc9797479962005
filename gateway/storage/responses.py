"""Stored responses: each has its own items and names the one before it; together they are a conversation.

Images are stored beside their items: of a long conversation only the newest are needed again.
"""

import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from gateway.errors import InvalidValue, NotFound
from gateway.schema.paths import short
from gateway.storage import stored_history
from gateway.storage.database import Database
from gateway.storage.stored_history import CHAIN, StoredItem, Wanted, named

MOST_REFERENCES: Final = 1000  # items of other responses in a request
UNFINISHED_TTL: Final = 3600  # seconds after which a response that never ended is deleted


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
        body: bytes = await self._found("body", caller, response_id)
        return body

    async def body_size(self, caller: str, response_id: str) -> int:
        """Return how many bytes `body` returns. Raises NotFound."""
        size: int = await self._found("length(body)", caller, response_id)
        return size

    async def delete(self, caller: str, response_id: str) -> None:
        """Delete the response; those after it can no longer be continued. Raises NotFound."""
        deleted = await self._database.free(
            lambda connection: (
                connection.execute(
                    "DELETE FROM responses WHERE id = ? AND caller = ? AND expires_at > ? AND body <> x''",
                    (response_id, caller, int(time.time())),
                ).rowcount
            )
        )
        if not deleted:
            raise _not_found(response_id)

    async def conversation_size(self, wanted: Wanted) -> int:
        """Return how many bytes `conversation` returns; raises what it does."""
        return await self._database.read(
            partial(
                stored_history.conversation_size,
                wanted=wanted,
                now=int(time.time()),
                max_bytes=self._max_bytes,
            )
        )

    async def items_size(self, caller: str, ids: Sequence[str]) -> int:
        """Return how many bytes the items `ids` have, each as often as it is named.

        Raises InvalidValue where they are too many or too large.
        """
        if len(ids) > MOST_REFERENCES:
            raise InvalidValue(
                f"input: {len(ids)} items are referred to; the limit is {MOST_REFERENCES}", param="input"
            )
        size = await self._database.read(
            partial(stored_history.items_size, caller=caller, ids=ids, now=int(time.time()))
        )
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
            partial(
                stored_history.conversation, wanted=wanted, now=int(time.time()), max_bytes=self._max_bytes
            )
        )

    async def items(self, caller: str, ids: Sequence[str]) -> dict[str, StoredItem]:
        """Return those of the items `ids` that are stored, by their id."""
        return await self._database.read(
            partial(stored_history.items_by_id, caller=caller, ids=ids, now=int(time.time()))
        )

    async def _found(self, what: str, caller: str, response_id: str) -> Any:
        found = await self._database.read(
            lambda connection: connection.execute(
                f"SELECT {what} FROM responses"
                " WHERE id = ? AND caller = ? AND expires_at > ? AND body <> x''",
                (response_id, caller, int(time.time())),
            ).fetchone()
        )
        if found is None:
            raise _not_found(response_id)
        return found[0]


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
        f"{CHAIN} UPDATE responses SET expires_at = :expires_at WHERE id IN (SELECT id FROM chain)",
        named(response_id, caller, now) | {"expires_at": expires_at},
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
