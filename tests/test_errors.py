"""The tree of errors is the one that its docstring draws."""

import re
from collections.abc import Iterator

from gateway import errors
from gateway.errors import GatewayError, Unavailable

Row = tuple[str, str | None, int, str, str]  # name, parent, status, type, code

LINE = re.compile(
    r"(?P<branch>[│ ├└─]*)(?P<name>\w+) +(?P<status>\d{3}) +(?:(?P<type>\w+_error) +)?(?P<code>\w+)"
)


def drawn() -> Iterator[Row]:
    """Yield the rows of the drawing; a type that is not written is the one of the parent."""
    above: list[tuple[str, str]] = []
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines()[2:]:
        match = LINE.fullmatch(line)
        assert match, line
        depth = len(match["branch"]) // 4
        del above[depth:]
        parent, inherited = above[-1] if above else (None, "")
        kind = match["type"] or inherited
        above.append((match["name"], kind))
        yield match["name"], parent, int(match["status"]), kind, match["code"]


def built(kind: type[GatewayError], parent: str | None = None) -> Iterator[Row]:
    yield kind.__name__, parent, kind.status, kind.type, kind.code
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from built(child, kind.__name__)


def test_tree_is_as_drawn() -> None:
    assert list(drawn()) == list(built(GatewayError))


def test_every_code_is_told_by_one_error_alone() -> None:
    codes = [code for *_, code in built(GatewayError)]
    assert len(codes) == len(set(codes))


def test_what_is_unavailable_says_when_to_come_back() -> None:
    unavailable = [row for row in built(GatewayError) if row[2] == 503]
    assert unavailable == list(built(Unavailable, "GatewayError"))
    assert Unavailable("x").retry_after == 1
