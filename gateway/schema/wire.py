"""Base classes of the types that clients send."""

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, PrivateAttr, model_validator

from gateway.schema.ledger import Ledger

# pydantic collects every error, at a kilobyte each, and two bytes of a body can be one: a large body could
# use up all memory. So lists stop at their first error, and objects may have at most this many fields.
MOST_FIELDS = 200
MODEL = "The name of the served model or an alias. Optional, because there is one model."
LARGEST_INTEGER = 2**64 - 1  # the largest that orjson can write


class WireModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MOST_FIELDS:
            raise ValueError(f"an object must have at most {MOST_FIELDS} fields")
        return value


def branch(value: Any) -> str:
    """Return the tag of a union for `value`; brackets distinguish it from a field in an error's location."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if isinstance(kind, str) else "<>"


def writable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema` if all its numbers can be written as JSON again. Raises ValueError."""
    left: list[Any] = [schema]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, int) and not -(2**63) <= value <= LARGEST_INTEGER:
            raise ValueError("an integer in a schema must fit into 64 bits")
        elif isinstance(value, float) and not isfinite(value):
            raise ValueError("a number in a schema must be finite")
    return schema


Schema = Annotated[dict[str, Any], AfterValidator(writable)]


class Body(WireModel):
    """The body of a request. Its fields are those that its ledger honours; the ledger removes the rest."""

    ledger: ClassVar[Ledger] = Ledger({})
    _ignored: tuple[str, ...] = PrivateAttr(default=())

    @property
    def ignored(self) -> tuple[str, ...]:
        """Return the paths of unknown fields that were ignored."""
        return self._ignored

    @classmethod
    def read(cls, content: dict[str, Any]) -> Self:
        """Return `content` as a request. Raises RequestError and pydantic's ValidationError."""
        sifted, ignored = cls.ledger.sift(content)
        return cls.model_validate(sifted).noting(ignored)

    def noting(self, ignored: tuple[str, ...]) -> Self:
        """Set the paths of ignored fields, and return this request."""
        self._ignored = ignored
        return self
