"""Stored responses. Each has its own items and names the previous one; a chain of them is a conversation.

Images are stored apart from their items: of a long conversation, only the newest are read again.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from gateway.errors import InvalidValue, NotFound
from gateway.schema.paths import short
from gateway.storage import stored_history
from gateway.storage.database import Connection, Database
from gateway.storage.stored_history import CHAIN, StoredItem, Wanted, named

MAX_REFERENCES: Final = 1000  # items of other responses in one request
UNFINISHED_TTL: Final = 3600  # seconds after which an unfinished response is deleted


class ResponseStore:
    """Keeps responses for `ttl` seconds after they were last continued. A caller sees only its own.

    Conversations of more than `max_bytes` are refused. All methods raise StorageUnavailable.
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
        """Store a response's input, invisible until `finish`. Raises StorageFull too."""
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
        """Store the response in JSON and its output; extend the life of the responses before it.

        Raises NotFound if it was begun too long ago, and StorageFull too.
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
        body: bytes = await self._select("body", caller, response_id)
        return body

    async def body_size(self, caller: str, response_id: str) -> int:
        """Return the size of `body` in bytes. Raises NotFound."""
        size: int = await self._select("length(body)", caller, response_id)
        return size

    async def delete(self, caller: str, response_id: str) -> None:
        """Delete the response; the responses after it can no longer be continued. Raises NotFound."""
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
        """Return the size of `conversation` in bytes. Raises the same errors."""
        return await self._database.read(
            partial(
                stored_history.conversation_size,
                wanted=wanted,
                now=int(time.time()),
                max_bytes=self._max_bytes,
            )
        )

    async def items_size(self, caller: str, ids: Sequence[str]) -> int:
        """Return the size of the items `ids` in bytes; an item that is named twice counts twice.

        Raises InvalidValue if they are too many or too large.
        """
        if len(ids) > MAX_REFERENCES:
            raise InvalidValue(
                f"input: {len(ids)} items are referred to; the limit is {MAX_REFERENCES}", param="input"
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

        Raises PreviousResponseNotFound if one of its responses is not stored or has expired, and InvalidValue
        if the conversation is too long.
        """
        return await self._database.read(
            partial(
                stored_history.conversation, wanted=wanted, now=int(time.time()), max_bytes=self._max_bytes
            )
        )

    async def items(self, caller: str, ids: Sequence[str]) -> dict[str, StoredItem]:
        """Return the items `ids` that are stored, by id."""
        return await self._database.read(
            partial(stored_history.items_by_id, caller=caller, ids=ids, now=int(time.time()))
        )

    async def _select(self, what: str, caller: str, response_id: str) -> Any:
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
    connection: Connection,
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
    connection: Connection,
    *,
    response_id: str,
    caller: str,
    body: bytes,
    output: Sequence[StoredItem],
    now: int,
    expires_at: int,
) -> bool:
    """Store the response's body and output; return False if it is no longer stored."""
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


def _add_items(connection: Connection, response_id: str, items: Sequence[StoredItem], first: int) -> None:
    """Add `items` to the response, with positions from `first`."""
    placed = list(enumerate(items, first))
    connection.executemany(
        "INSERT INTO response_items (response_id, place, id, is_output, item) VALUES (?, ?, ?, ?, ?)",
        [(response_id, place, item.id, item.is_output, item.json) for place, item in placed],
    )
    connection.executemany(
        "INSERT INTO response_images (response_id, place, part, url) VALUES (?, ?, ?, ?)",
        # A generator: an item that is referred to many times shares its images' memory until here.
        (
            (response_id, place, part, url.encode())
            for place, item in placed
            for part, url in item.images.items()
        ),
    )
