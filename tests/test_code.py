"""What the code must not do anywhere, on the Python versions that it runs on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine_config
import gateway

SOURCES = [
    path for package in (gateway, engine_config) for path in sorted(Path(package.__path__[0]).rglob("*.py"))
]


def raises_in_except_star(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of `raise` statements inside the handlers of `except*`."""
    for node in ast.walk(tree):
        for handler in node.handlers if isinstance(node, ast.TryStar) else ():
            yield from (found.lineno for found in ast.walk(handler) if isinstance(found, ast.Raise))


def test_nothing_is_raised_inside_except_star() -> None:
    """Python 3.11.2, Debian 12's, wraps that in an ExceptionGroup, which no caller expects."""
    assert "except*" in "".join(path.read_text() for path in SOURCES)
    found = [
        f"{path}:{line}" for path in SOURCES for line in raises_in_except_star(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize("statement", ["raise", "raise ValueError", "if x:\n        raise x.exceptions[0]"])
def test_a_raise_inside_except_star_is_found(statement: str) -> None:
    code = f"try:\n    work()\nexcept* OSError as x:\n    {statement}\n"
    assert len(list(raises_in_except_star(ast.parse(code)))) == 1


def test_a_class_of_the_lower_packages_shares_its_name_with_no_other() -> None:
    packages = [
        Path(gateway.__path__[0], name) for name in ("schema", "settings", "images", "prompt", "access")
    ]
    found: dict[str, list[Path]] = {}
    for path in Path(gateway.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(path)
    assert len(found) > 300
    doubled = {name: paths for name, paths in found.items() if len(paths) > 1}
    assert [
        name for name, paths in doubled.items() if any(set(packages) & set(p.parents) for p in paths)
    ] == []
