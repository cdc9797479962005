"""One test that tries every row of a table and names each that fails.

`pytest.mark.parametrize` makes a test of each row, with fixtures and a report of its own: that takes longer
than most of our rows do.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Test = Callable[..., Any]


def each(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[Test], Test]:
    """Call the test with every row as `pytest.mark.parametrize` does; fail with the name of each that fails.

    The rows share the test's fixtures. For a test of rows that need their own, use `parametrize`.
    """
    table: list[dict[str, Any]]
    if isinstance(names, str):
        table = [{names: row} for row in rows]
    else:
        table = [dict(zip(names, row, strict=True)) for row in rows]
    assert table, "a table without rows tests nothing"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            failures = _Failures()
            for row in table:
                with failures.of(row):
                    test(**fixtures, **row)
            failures.report(len(table))

        @functools.wraps(test)
        async def run_async(**fixtures: Any) -> None:
            failures = _Failures()
            for row in table:
                with failures.of(row):
                    await test(**fixtures, **row)
            failures.report(len(table))

        made: Test = run_async if inspect.iscoroutinefunction(test) else run
        signature = inspect.signature(test)
        fixtures = [one for name, one in signature.parameters.items() if name not in table[0]]
        setattr(made, "__signature__", signature.replace(parameters=fixtures))  # noqa: B010  # mypy
        return made

    return decorate


class _Failures:
    """The rows that failed, and the first of their errors."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._first: BaseException | None = None

    @contextmanager
    def of(self, row: dict[str, Any]) -> Iterator[None]:
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # reported at the end
            name = ", ".join(f"{key}={str(value)[:80]!r}" for key, value in row.items())
            self._said.append(f"{name}: {type(error).__name__}: {str(error)[:400]}")
            self._first = self._first or error

    def report(self, number: int) -> None:
        if self._first is not None:
            said = "\n".join(self._said)
            raise AssertionError(f"{len(self._said)} of {number} rows failed\n{said}") from self._first
