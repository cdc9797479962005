"""The fields of OpenAI's requests, as the `openai` package's types have them."""

import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Union, get_args, get_origin, get_type_hints

import typing_extensions

_WRAPPERS = (typing.Required, typing.NotRequired, typing.Annotated)


def fields(kind: Any, path: str = "", above: tuple[Any, ...] = ()) -> Iterator[str]:
    """Yield the dotted path of every field of the typed dictionary `kind`, `[]` after a list."""
    origin, arguments = get_origin(kind), get_args(kind)
    if typing_extensions.is_typeddict(kind):
        if kind in above:
            return
        for name, inner in get_type_hints(kind).items():
            where = f"{path}.{name}" if path else name
            yield where
            yield from fields(inner, where, (*above, kind))
    elif origin in _WRAPPERS:
        yield from fields(arguments[0], path, above)
    elif origin in (Union, types.UnionType):
        for choice in arguments:
            yield from fields(choice, path, above)
    elif origin in (list, Iterable):
        yield from fields(arguments[0], f"{path}[]", above)
