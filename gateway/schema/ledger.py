"""The ledger: how each field of a request is handled, as data for validation and the docs.

A field is honoured, refused, or without effect. A null field is dropped, known or not. A field without a row
is refused by the validation that follows; but inside messages, to which SDKs and frontends add their own
fields, it is ignored and reported to the client, unless it looks like an image.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

from gateway.errors import UnknownParameter, UnsupportedParameter
from gateway.schema.image_fields import looks_like_an_image
from gateway.schema.paths import path

MOST_IGNORED = 16  # unknown fields of a request that are reported


class Verdict(Enum):
    HONOURED = "honoured"
    WITHOUT_EFFECT = "without effect"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Row:
    """How one field is handled.

    `field` is its dotted path, with `[]` after a list: `messages[].content[].text`. A refused field is
    accepted with one of the values `but`, which have no effect.
    """

    field: str
    verdict: Verdict
    meaning: str
    but: tuple[Any, ...] = ()


def honoured(name: str, meaning: str) -> Row:
    return Row(name, Verdict.HONOURED, meaning)


def without_effect(name: str, meaning: str) -> Row:
    return Row(name, Verdict.WITHOUT_EFFECT, meaning)


def refused(name: str, meaning: str, but: tuple[Any, ...] = ()) -> Row:
    return Row(name, Verdict.REFUSED, meaning, but)


@dataclass(slots=True)
class _Node:
    """A node in the tree of fields, with its sub-fields."""

    row: Row | None = None
    fields: dict[str, "_Node"] = field(default_factory=dict)
    # The sub-fields that must be checked: those not honoured, or with sub-fields.
    checked: dict[str, "_Node"] = field(default_factory=dict)
    ignores: bool = False  # whether unknown sub-fields are ignored

    def ignore(self) -> None:
        """Ignore unknown sub-fields at every depth."""
        self.ignores = True
        for inside in self.fields.values():
            inside.ignore()


class Ledger:
    """The rows of one route, by the title of their section in the docs.

    Unknown fields inside the field `messages` are ignored, if it is named.
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
        """Return the row for the field `name` (a dotted path), or None.

        Sub-fields of a field that is refused or without effect are treated like it.
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
        """Return the honoured and the unknown fields of `body`, and the paths of ignored ones.

        Null fields are dropped. The content of a field without sub-fields in the ledger, such as a JSON
        schema, is left unchanged. Raises UnsupportedParameter for a refused field, unless its value has no
        effect, and UnknownParameter for an ignored one that looks like an image.
        """
        ignored: dict[str, None] = {}
        return _sifted(body, self._root, (), ignored), tuple(ignored)

    def tables(self) -> str:
        """Return the rows as Markdown, with one table per section."""
        return "\n".join(_table(title, rows) for title, rows in self.sections.items())

    def _add(self, row: Row) -> None:
        node = self._root
        *above, last = _steps(row.field)
        for step in above:
            inside = node.fields[step]
            if inside.row is not None and inside.row.verdict is not Verdict.HONOURED:
                raise ValueError(f"{row.field} is inside a field that is not honoured")
            node.checked[step] = inside
            node = inside
        if last in node.fields:
            raise ValueError(f"{row.field} appears twice")
        node.fields[last] = _Node(row)
        if row.verdict is not Verdict.HONOURED:
            node.checked[last] = node.fields[last]


def _steps(name: str) -> list[str]:
    return name.replace("[]", "").split(".")


# The position of a field: that of its parent, and its name or index there.
_Where = tuple["_Where", int | str] | tuple[()]


def _sifted(given: dict[str, Any], node: _Node, where: _Where, ignored: dict[str, None]) -> dict[str, Any]:
    # Every field of every request passes here, so those that need no check must cost little.
    checked = node.checked
    changed: dict[str, Any] = {}
    dropped: set[str] = set()
    for name, value in given.items():
        if value is None:
            dropped.add(name)
            continue
        known = checked.get(name)
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
        assert row is not None  # only honoured fields have sub-fields
        if row.verdict is Verdict.REFUSED and not _has_no_effect(value, row.but):
            raise _refusal(row, path(_steps_to((where, name))))
        dropped.add(name)
    if not (changed or dropped):
        return given
    return {name: changed.get(name, value) for name, value in given.items() if name not in dropped}


def _ignore(name: str, value: Any, where: _Where, ignored: dict[str, None]) -> None:
    """Add the path of the field to `ignored`. Raises UnknownParameter if it looks like an image."""
    if looks_like_an_image(name, value):
        param = path(_steps_to(where))
        raise UnknownParameter(
            f"{param}: there is no such parameter; an image must be a part of a message's `content`",
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


def _has_no_effect(value: Any, defaults: tuple[Any, ...]) -> bool:
    # `True == 1`: the types must agree too.
    return any(type(value) is type(default) and value == default for default in defaults)


def _refusal(row: Row, param: str) -> UnsupportedParameter:
    return UnsupportedParameter(f"{param}: this parameter is not supported: {row.meaning}", param=param)


def _table(title: str, rows: tuple[Row, ...]) -> str:
    lines = [f"## {title}", "", "| field | | |", "| --- | --- | --- |"]
    for row in rows:
        accepted = ", ".join(f"`{orjson.dumps(value).decode()}`" for value in row.but)
        but = f" Accepted as {accepted}." if accepted else ""
        lines.append(f"| `{row.field}` | {row.verdict.value} | {row.meaning}{but} |")
    return "\n".join(lines) + "\n"
