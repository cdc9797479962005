"""From what a client asks of an answer's form to the grammar that the engine keeps to.

Grammars are in llguidance's Lark: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md. Each
begins with the space that follows `ASSISTANT:`, as LLaVA's answers do; the answer is returned without it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import orjson

from gateway.engine.interface import Constraint
from gateway.errors import InvalidValue
from gateway.generation.keywords import UNSUPPORTED, says_nothing
from gateway.schema.paths import path, short

MAX_BYTES = 64 * 2**10  # of a schema, a pattern or a grammar
MAX_DEPTH = 32  # levels of a schema
# What a schema leaves open ends here, so that every answer can end.
LONGEST_TEXT = 1000  # characters
MOST_ITEMS = 100
LARGEST = 10**15  # a number that JavaScript still has exactly
MAX_REPEAT = 10_000  # what a schema may demand in items, properties or multiples

# How JSON is written: on one line, with the spaces that models have learned.
_LAYOUT: Final = {
    "coerce_one_of": True,
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
_SCHEMAS_BY_NAME: Final = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMAS: Final = ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf")
_REPEATS: Final = ("minItems", "maxItems", "minProperties", "maxProperties", "multipleOf")


def json_object(param: str) -> Constraint:
    """Return the constraint to any JSON object."""
    return json_schema({"type": "object"}, param)


def json_schema(schema: Mapping[str, Any], param: str) -> Constraint:
    """Return the constraint to JSON of this schema, which is in the field `param`. Raises InvalidValue."""
    return Constraint(f'start: " " json\njson: {json_rule(schema, param)}', param)


def json_rule(schema: Mapping[str, Any], param: str) -> str:
    """Return the right side of the grammar's rule for JSON of this schema. Raises InvalidValue."""
    # Its size first: then whatever the rest costs is bounded, on the event loop too.
    _check_size(orjson.dumps(schema).decode(), param)
    _check(schema, param)
    written = orjson.dumps({**_closed(schema), "x-guidance": _LAYOUT}).decode()
    _check_size(written, param)
    return f"%json {written}"


def regex(pattern: str, param: str) -> Constraint:
    """Return the constraint to a full match of `pattern`. Raises InvalidValue."""
    _check_size(pattern, param)
    # In a grammar a pattern stands between slashes, on one line.
    one_line = pattern.replace("\n", "\\n")
    escaped = re.sub(
        r"\\.|/", lambda found: "\\/" if found[0] == "/" else found[0], one_line, flags=re.DOTALL
    )
    return Constraint(f'start: " " match\nmatch: MATCH\nMATCH: /{escaped}/', param)


def choice(choices: Sequence[str], param: str) -> Constraint:
    """Return the constraint to one of `choices`. Raises InvalidValue."""
    words = " | ".join(orjson.dumps(word).decode() for word in choices)
    _check_size(words, param)
    return Constraint(f'start: " " ({words})', param)


def grammar(source: str, param: str) -> Constraint:
    """Return the constraint to a text of the grammar, in Lark or in EBNF, as it is. Raises InvalidValue."""
    _check_size(source, param)
    return Constraint(source, param)


def _check_size(text: str, param: str) -> None:
    size = len(text.encode())
    if size > MAX_BYTES:
        raise InvalidValue(f"{param}: it has {size} bytes; the limit is {MAX_BYTES}", param=param)


def _check(schema: Any, param: str) -> None:
    for where, inner in _schemas(schema, (), param):
        for name, value in inner.items():
            at = f"{param}.{path((*where, name))}"
            if name in UNSUPPORTED and not says_nothing(name, inner, schema):
                raise InvalidValue(f"{at}: this keyword is not supported", param=at)
            if name in _REPEATS and _repeats(value) > MAX_REPEAT:
                point = " without its point" if isinstance(value, float) else ""
                raise InvalidValue(
                    f"{at}: the limit is {MAX_REPEAT}{point}; got {short(str(value))}", param=at
                )
            if name == "$ref" and not str(value).startswith("#"):
                raise InvalidValue(
                    f"{at}: a reference must be to this schema and begin with '#'; got {short(str(value))!r}",
                    param=at,
                )
    _check_multiples(schema, param)


def _repeats(value: Any) -> int:
    """Return what a number costs the engine's automaton: 1.5 as much as 15."""
    if not isinstance(value, int | float):
        return 0
    return abs(int(value)) if value == int(value) else abs(_scaled(value, _places(value)))


def _places(value: float) -> int:
    """Return how many digits there are behind the point."""
    return max(0, -int(Decimal(repr(value)).normalize().as_tuple().exponent))


def _scaled(value: float, places: int) -> int:
    return int(Decimal(repr(value)).scaleb(places))


def _check_multiples(schema: Any, param: str) -> None:
    """Bound the least common multiple, as far as `allOf` can have it computed; each is bounded already."""
    inner = [found for _, found in _schemas(schema, (), param)]
    if not any("allOf" in found for found in inner):
        return
    given = (found.get("multipleOf", 0) for found in inner)
    multiples: list[float] = [value for value in given if _repeats(value)]
    places = max(map(_places, multiples), default=0)
    product = 1
    for multiple in multiples:
        product *= abs(_scaled(multiple, places))
        if product > MAX_REPEAT:
            raise InvalidValue(
                f"{param}: beside `allOf`, the product of all `multipleOf` may be {MAX_REPEAT}"
                f"{' without their points' if places else ''}; got at least {short(str(product))}",
                param=param,
            )


def _schemas(
    schema: Any, where: tuple[int | str, ...], param: str
) -> Iterator[tuple[tuple[int | str, ...], Mapping[str, Any]]]:
    """Yield `schema` and the schemas in it, each with its place. Raises InvalidValue where it is too deep."""
    if len(where) > MAX_DEPTH:
        at = f"{param}.{path(where)}"
        raise InvalidValue(f"{at}: a schema may be {MAX_DEPTH} levels deep", param=at)
    if isinstance(schema, list):
        for place, inner in enumerate(schema):
            yield from _schemas(inner, (*where, place), param)
    if not isinstance(schema, dict):
        return
    yield where, schema
    for name in _SCHEMAS:
        if name in schema:
            yield from _schemas(schema[name], (*where, name), param)
    for name in _SCHEMAS_BY_NAME:
        inner = schema.get(name)
        for key, value in inner.items() if isinstance(inner, dict) else ():
            yield from _schemas(value, (*where, name, key), param)


def _closed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with objects closed to properties that they do not name, where it says nothing.

    Left open, a model would go on inventing properties. Where `allOf` joins objects, all stay as they
    are: two closed ones have nothing in common. What says nothing is left out.
    """
    schemas = [inner for _, inner in _schemas(schema, (), "")]
    joined = any("allOf" in inner for inner in schemas)
    closed: Mapping[str, Any] = _close(schema, schema, joined=joined)
    return closed


def _close(schema: Any, root: Mapping[str, Any], *, joined: bool) -> Any:
    if isinstance(schema, list):
        return [_close(inner, root, joined=joined) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed: dict[str, Any] = {}
    for name, value in schema.items():
        if says_nothing(name, schema, root):
            continue
        if name in _SCHEMAS:
            closed[name] = _close(value, root, joined=joined)
        elif name in _SCHEMAS_BY_NAME and isinstance(value, dict):
            closed[name] = {key: _close(inner, root, joined=joined) for key, inner in value.items()}
        else:
            closed[name] = value
    if not joined:
        if "properties" in closed:
            closed.setdefault("additionalProperties", "patternProperties" in closed)
        _bound(closed)
    return closed


def _bound(schema: dict[str, Any]) -> None:
    """Bound what the schema leaves unbounded: a small model may never end a string, a list or a number."""
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "string" in kinds and not schema.keys() & {"maxLength", "pattern", "format", "enum", "const"}:
        schema["maxLength"] = max(LONGEST_TEXT, _number(schema.get("minLength")))
    if "array" in kinds and "maxItems" not in schema:
        schema["maxItems"] = max(MOST_ITEMS, _number(schema.get("minItems")))
    if not schema.keys() & {"enum", "const"} and {"integer", "number"} & set(map(str, kinds)):
        if not schema.keys() & {"maximum", "exclusiveMaximum"}:
            schema["maximum"] = max(LARGEST, _number(schema.get("minimum")))
        if not schema.keys() & {"minimum", "exclusiveMinimum"}:
            schema["minimum"] = min(-LARGEST, _number(schema.get("maximum")))


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) else 0
