"""The ledger's machinery: what becomes of every field of a request, as data for validation and the docs.

A field is honoured, refused, or without effect. A field whose value is null asks for nothing and is dropped,
known or not. A field that no row knows is refused by what validates next; but within messages, to which SDKs
and frontends add their own, it is ignored and named to the client, unless it looks like a picture.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

from gateway.errors import UnknownParameter, UnsupportedParameter
from gateway.schema.image_fields import looks_like_a_picture
from gateway.schema.paths import path

MOST_IGNORED = 16  # unknown fields of a request that are named


class Verdict(Enum):
    HONOURED = "honoured"
    WITHOUT_EFFECT = "without effect"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Row:
    """What becomes of one field.

    `field` is its dotted path, with `[]` after a list: `messages[].content[].text`. A refused field is
    still accepted with one of the values `but`, which change nothing.
    """

    field: str
    verdict: Verdict
    says: str
    but: tuple[Any, ...] = ()


def honoured(name: str, says: str) -> Row:
    return Row(name, Verdict.HONOURED, says)


def without_effect(name: str, says: str) -> Row:
    return Row(name, Verdict.WITHOUT_EFFECT, says)


def refused(name: str, says: str, but: tuple[Any, ...] = ()) -> Row:
    return Row(name, Verdict.REFUSED, says, but)


@dataclass(slots=True)
class _Node:
    """A field in the tree of fields, with those inside it."""

    row: Row | None = None
    fields: dict[str, "_Node"] = field(default_factory=dict)
    # Only the fields inside that need a look: not honoured, or with fields of their own.
    looks: dict[str, "_Node"] = field(default_factory=dict)
    ignores: bool = False  # whether unknown fields inside are ignored

    def ignore(self) -> None:
        """Ignore what is unknown inside, at every depth."""
        self.ignores = True
        for inside in self.fields.values():
            inside.ignore()


class Ledger:
    """The rows of one route, by the title of their section in the docs.

    Inside the field `messages`, where one is named, unknown fields are ignored.
    """

    def __init__(self, sections: Mapping[str, tuple[Row, ...]], messages: str | None = None) -> None:
        self.sections = sections
        self._root = _Node()
        for row in self.rows():
            self._add(row)
        self.messages = messages
        if messages is not None:
            self._root.fields[messages].ignore()

    def rows(self) -> Iterator[Row]:
        for rows in self.sections.values():
            yield from rows

    def row(self, name: str) -> Row | None:
        """Return the row that decides about the field `name` (a dotted path), None where none does.

        Everything inside a field that is refused or without effect is treated the same.
        """
        node = self._root
        for step in _steps(name):
            if step not in node.fields:
                return None
            node = node.fields[step]
            if node.row is not None and node.row.verdict is not Verdict.HONOURED:
                break
        return node.row

    def sift(self, body: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return `body` with the honoured fields and the unknown ones, and the paths of those it ignores.

        Fields whose value is null are dropped. The content of a field without rows of its own inside, such as
        a JSON schema, is left as it is. Raises UnsupportedParameter for a refused field that asks for
        something, and UnknownParameter for one that would be ignored but looks like a picture.
        """
        ignored: dict[str, None] = {}
        return _sifted(body, self._root, (), ignored), tuple(ignored)

    def tables(self) -> str:
        """Return the rows as Markdown, a table for each section."""
        return "\n".join(_table(title, rows) for title, rows in self.sections.items())

    def _add(self, row: Row) -> None:
        node = self._root
        *above, last = _steps(row.field)
        for step in above:
            inside = node.fields[step]
            if inside.row is not None and inside.row.verdict is not Verdict.HONOURED:
                raise ValueError(f"{row.field} is inside a field that is not honoured")
            node.looks[step] = inside
            node = inside
        if last in node.fields:
            raise ValueError(f"{row.field} appears twice")
        node.fields[last] = _Node(row)
        if row.verdict is not Verdict.HONOURED:
            node.looks[last] = node.fields[last]


def _steps(name: str) -> list[str]:
    return name.replace("[]", "").split(".")


# Where a field is: what it is in, and its name or place there.
_Where = tuple["_Where", int | str] | tuple[()]


def _sifted(given: dict[str, Any], node: _Node, where: _Where, ignored: dict[str, None]) -> dict[str, Any]:
    # Every field of every request passes here: those that need no look cost two steps.
    looks = node.looks
    changed: dict[str, Any] = {}
    dropped: set[str] = set()
    for name, value in given.items():
        if value is None:
            dropped.add(name)
            continue
        known = looks.get(name)
        if known is None:
            if node.ignores and name not in node.fields:
                _ignore(name, value, (where, name), ignored)
                dropped.add(name)
            continue
        if known.fields:
            inside = _inside(value, known, (where, name), ignored)
            if inside is not value:
                changed[name] = inside
            continue
        row = known.row
        assert row is not None  # Only honoured fields have others inside.
        if row.verdict is Verdict.REFUSED and not _asks_for_nothing(value, row.but):
            raise _refusal(row, path(_steps_to((where, name))))
        dropped.add(name)
    if not (changed or dropped):
        return given
    return {name: changed.get(name, value) for name, value in given.items() if name not in dropped}


def _ignore(name: str, value: Any, where: _Where, ignored: dict[str, None]) -> None:
    """Add where the field is to those `ignored`. Raises UnknownParameter if it looks like a picture."""
    if looks_like_a_picture(name, value):
        param = path(_steps_to(where))
        raise UnknownParameter(
            f"{param}: there is no such parameter; a picture must be a part of a message's `content`",
            param=param,
        )
    if len(ignored) < MOST_IGNORED:
        ignored[re.sub(r"\[\d+\]", "[]", path(_steps_to(where)))] = None


def _inside(value: Any, node: _Node, where: _Where, ignored: dict[str, None]) -> Any:
    if isinstance(value, dict):
        return _sifted(value, node, where, ignored)
    if not isinstance(value, list):
        return value
    changed: list[Any] | None = None
    for at, item in enumerate(value):
        if isinstance(item, dict):
            inside = _sifted(item, node, (where, at), ignored)
            if inside is not item:
                changed = changed or list(value)
                changed[at] = inside
    return value if changed is None else changed


def _steps_to(where: _Where) -> tuple[int | str, ...]:
    return (*_steps_to(where[0]), where[1]) if where else ()


def _asks_for_nothing(value: Any, defaults: tuple[Any, ...]) -> bool:
    # `True == 1`: the types must agree too.
    return any(type(value) is type(default) and value == default for default in defaults)


def _refusal(row: Row, param: str) -> UnsupportedParameter:
    return UnsupportedParameter(f"{param}: this parameter is not supported: {row.says}", param=param)


def _table(title: str, rows: tuple[Row, ...]) -> str:
    lines = [f"## {title}", "", "| field | | |", "| --- | --- | --- |"]
    for row in rows:
        taken = ", ".join(f"`{orjson.dumps(value).decode()}`" for value in row.but)
        but = f" Taken as {taken}." if taken else ""
        lines.append(f"| `{row.field}` | {row.verdict.value} | {row.says}{but} |")
    return "\n".join(lines) + "\n"
