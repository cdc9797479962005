"""What all objects on the wire have in common."""

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, PrivateAttr, model_validator

from gateway.schema.ledger import Ledger

# pydantic reports every error it finds, at a kilobyte each, and two bytes can be one: a large body of them
# would take all memory. So lists stop at their first error, and objects have at most this many fields.
MOST_FIELDS = 200
MODEL = "The served name or one of its aliases; may be left out, for there is one model."
LARGEST_INTEGER = 2**64 - 1  # that JSON's writer can write


class WireModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MOST_FIELDS:
            raise ValueError(f"an object must have at most {MOST_FIELDS} fields")
        return value


def branch(value: Any) -> str:
    """Name the branch of a union for `value`, in brackets to tell it from a field in an error's location."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if isinstance(kind, str) else "<>"


def writable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`, which may have no number that could not be written again. Raises ValueError."""
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
    """The body of a request. Its fields are what its ledger honours; the ledger has sifted out the rest."""

    ledger: ClassVar[Ledger] = Ledger({})
    _ignored: tuple[str, ...] = PrivateAttr(default=())

    @property
    def ignored(self) -> tuple[str, ...]:
        """Return the paths of fields that the client sent and nobody knows."""
        return self._ignored

    @classmethod
    def read(cls, content: dict[str, Any]) -> Self:
        """Return `content` as a request. Raises RequestError, and pydantic's ValidationError."""
        sifted, ignored = cls.ledger.sift(content)
        return cls.model_validate(sifted).noting(ignored)

    def noting(self, ignored: tuple[str, ...]) -> Self:
        """Return this request, which ignores the fields at these paths."""
        self._ignored = ignored
        return self
