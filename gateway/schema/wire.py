"""What all objects on the wire have in common."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from gateway.schema.ledger import Ledger

# pydantic reports every error it finds, at a kilobyte each, and two bytes can be one: a large body of them
# would take all memory. So lists stop at their first error, and objects have at most this many fields.
MOST_FIELDS = 200


class Wire(BaseModel):
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


class Body(Wire):
    """The body of a request. Its fields are what its ledger honours; the ledger has sifted out the rest."""

    ledger: ClassVar[Ledger] = Ledger({})
