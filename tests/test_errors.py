"""The tree of errors is the one that its docstring draws."""

import re
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

from gateway import errors
from gateway.cli import app
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


def test_every_error_says_what_it_means() -> None:
    meanings = [kind.__doc__ for kind in errors._all(GatewayError)]
    assert all(meaning is not None and meaning.endswith(".") for meaning in meanings)
    assert len(set(meanings)) == len(list(drawn()))


def test_the_page_in_the_docs_is_what_the_command_prints() -> None:
    page = (Path(__file__).parents[1] / "docs/errors.md").read_text()
    printed = CliRunner().invoke(app, ["errors"]).stdout
    assert page == printed
    assert {line.split("`")[1] for line in printed.splitlines() if re.match(r"\| \d{3} ", line)} == {
        code for *_, code in drawn()
    }


def test_version_is_printed_alone() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"llava-gateway \d+\.\d+\.\d+\n", result.stdout)
