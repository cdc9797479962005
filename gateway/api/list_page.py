"""A list as OpenAI's API answers it, made of pieces: a long one must not keep the event loop to itself."""

from collections.abc import Sequence
from typing import Protocol

import orjson
from fastapi import Response

from gateway.api.streaming import json_response


class Entry(Protocol):
    """What a list is made of."""

    @property
    def id(self) -> str: ...


class ListPage:
    """Up to `limit` entries; one more that is added says that the list goes on."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._first: str | None = None
        self._last: str | None = None
        self._has_more = False
        self._written: list[bytes] = []

    def add(self, entries: Sequence[Entry]) -> None:
        """Write the next entries."""
        self._has_more = len(entries) > self._left
        entries = entries[: self._left]
        if not entries:
            return
        self._left -= len(entries)
        self._first = self._first or entries[0].id
        self._last = entries[-1].id
        self._written.append(orjson.dumps(entries)[1:-1])

    def response(self) -> Response:
        """Return the list."""
        return json_response(
            {
                "object": "list",
                "data": orjson.Fragment(b"[" + b",".join(self._written) + b"]"),
                "first_id": self._first,
                "last_id": self._last,
                "has_more": self._has_more,
            }
        )
