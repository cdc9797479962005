"""The fields of OpenAI's requests, as the `openai` package's types have them."""

import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typing_extensions

_WRAPPERS = (typing.Required, typing.NotRequired, typing.Annotated)


Skip = Callable[[str, str], bool]


def fields(
    kind: Any, path: str = "", above: tuple[Any, ...] = (), skip: Skip = lambda _path, _type: False
) -> Iterator[str]:
    """Yield the dotted path of every field of the typed dictionary `kind`, `[]` after a list.

    A dictionary whose path and `type` make `skip` true is left out.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if typing_extensions.is_typeddict(kind):
        if kind in above or skip(path, type_of(kind)):
            return
        for name, inner in get_type_hints(kind).items():
            where = f"{path}.{name}" if path else name
            yield where
            yield from fields(inner, where, (*above, kind), skip)
    elif origin in _WRAPPERS:
        yield from fields(arguments[0], path, above, skip)
    elif origin in (Union, types.UnionType):
        for choice in arguments:
            yield from fields(choice, path, above, skip)
    elif origin in (list, Iterable):
        yield from fields(arguments[0], f"{path}[]", above, skip)


def type_of(kind: Any) -> str:
    """Return the first value that the typed dictionary `kind` allows for its field `type`, or ""."""
    hint = get_type_hints(kind).get("type")
    while get_origin(hint) in (*_WRAPPERS, Union):
        hint = get_args(hint)[0]
    values = get_args(hint) if get_origin(hint) is Literal else ()
    return str(values[0]) if values else ""
