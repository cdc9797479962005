"""The base class of the groups of settings."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_settings import NoDecode

Names = Annotated[tuple[str, ...], NoDecode]  # separated by commas


class Group(BaseModel):
    """A group of settings. Sizes are in bytes, times in seconds; lists are separated by commas."""

    model_config = ConfigDict(frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _split(cls, value: Any, info: ValidationInfo) -> Any:
        names = cls.model_fields[str(info.field_name)].annotation == tuple[str, ...]
        if names and isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value
