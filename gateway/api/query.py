"""Parameters in a URL's query, checked as a body's fields are."""

from collections.abc import Collection
from typing import TypeVar

from fastapi import Request

from gateway.errors import InvalidValue, UnknownParameter
from gateway.schema.paths import short

DIGITS = 10  # no number that is known here has as many

_T = TypeVar("_T", bound=str)


def only(request: Request, known: Collection[str]) -> None:
    """Raise UnknownParameter for a parameter that is not in `known`."""
    for name in request.query_params:
        if name not in known:
            raise UnknownParameter(f"{short(name)}: there is no such parameter", param=short(name))


def integer(request: Request, name: str, *, least: int, most: int, default: int) -> int:
    """Return the parameter `name`. Raises InvalidValue where it is no integer in the range."""
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < DIGITS and least <= int(given) <= most):
        raise InvalidValue(
            f'{name}: it must be an integer from {least} to {most}; got "{short(given)}"', param=name
        )
    return int(given)


def choice(request: Request, name: str, choices: tuple[_T, ...], default: _T) -> _T:
    """Return the parameter `name`. Raises InvalidValue where it is none of `choices`."""
    given = request.query_params.get(name)
    if given is None:
        return default
    for known in choices:
        if given == known:
            return known
    listed = " or ".join(f"`{known}`" for known in choices)
    raise InvalidValue(f'{name}: it must be {listed}; got "{short(given)}"', param=name)
