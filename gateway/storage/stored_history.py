"""Queries for stored conversations (a response and those before it) and single items."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import InvalidValue, PreviousResponseNotFound
from gateway.schema.paths import short
from gateway.storage.database import Connection

LONGEST: Final = 1000  # responses in a conversation
ALL: Final = 2**31  # images

# The response `:id` and the responses before it; `depth` is the distance from `:id`.
CHAIN = """
    WITH RECURSIVE chain (id, previous_id, depth) AS (
        SELECT id, previous_id, 0 FROM responses
        WHERE id = :id AND caller = :caller AND expires_at > :now AND body <> x''
        UNION ALL
        SELECT before.id, before.previous_id, depth + 1
        FROM chain JOIN responses AS before ON before.id = chain.previous_id
        WHERE before.caller = :caller AND before.expires_at > :now AND before.body <> x'' AND depth < :longest
    )
"""
# Their items and images; the output of `:id` only if `:output` is true.
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
    """An item of a response: its JSON without images, and the images by the number of their part.

    Images that were not requested are not in `images`.
    """

    id: str
    json: bytes = field(repr=False)
    images: dict[int, str] = field(default_factory=dict, repr=False)
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Selects a conversation up to the response `id`, with its output or without.

    Only the newest `max_images` images are read; None means all.
    """

    caller: str
    id: str
    output: bool = True
    max_images: int | None = None


def named(response_id: str, caller: str, now: int) -> dict[str, str | int]:
    return {"id": response_id, "caller": caller, "now": now, "longest": LONGEST}


def _wanted(wanted: Wanted, now: int) -> dict[str, str | int]:
    return named(wanted.id, wanted.caller, now) | {
        "output": wanted.output,
        "limit": ALL if wanted.max_images is None else wanted.max_images,
    }


def conversation_size(connection: Connection, wanted: Wanted, now: int, max_bytes: int) -> int:
    values = _wanted(wanted, now)
    before = connection.execute(f"{CHAIN} SELECT previous_id FROM chain ORDER BY depth", values).fetchall()
    _check_chain(wanted.id, [previous for (previous,) in before])
    (text,) = connection.execute(f"{CHAIN} SELECT total(length(item.item)) {_ITEMS}", values).fetchone()
    (images,) = connection.execute(
        f"{CHAIN} SELECT total(size) FROM (SELECT length(url) AS size {_IMAGES}) AS sizes", values
    ).fetchone()
    if text + images > max_bytes:
        raise InvalidValue(
            f"previous_response_id: the conversation has {text + images:.0f} bytes; the limit is {max_bytes}",
            param="previous_response_id",
        )
    return int(text + images)


def conversation(connection: Connection, wanted: Wanted, now: int, max_bytes: int) -> list[StoredItem]:
    conversation_size(connection, wanted, now, max_bytes)
    values = _wanted(wanted, now)
    urls: dict[tuple[str, int], dict[int, str]] = {}
    for response_id, place, part, url in connection.execute(
        f"{CHAIN} SELECT image.response_id, image.place, part, url {_IMAGES}", values
    ):
        urls.setdefault((response_id, place), {})[part] = url.decode()
    return [
        StoredItem(item_id, item, urls.get((response_id, place), {}), bool(is_output))
        for response_id, place, item_id, is_output, item in connection.execute(
            f"{CHAIN} SELECT response_id, place, item.id, is_output, item.item {_ITEMS}"
            " ORDER BY depth DESC, place",
            values,
        )
    ]


def _check_chain(response_id: str, before: list[str | None]) -> None:
    """Raise if the chain is too long or a response is missing. `before` has each response's `previous_id`."""
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


def items_size(connection: Connection, caller: str, ids: Sequence[str], now: int) -> int:
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


def items_by_id(connection: Connection, caller: str, ids: Sequence[str], now: int) -> dict[str, StoredItem]:
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
