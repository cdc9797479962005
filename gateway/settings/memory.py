"""Settings of the memory budgets."""

from typing import Any

from pydantic import Field, PositiveInt

from gateway.settings.group import Group


def _tenths(number: int) -> Any:
    """Return a default factory for `number` tenths of `memory`."""
    return lambda data: max(1, data["memory"] * number // 10)


class Memory(Group):
    """Memory budgets; docs/memory.md adds them up."""

    memory: PositiveInt = Field(
        default=5 * 2**29,
        description="Memory for running and waiting requests, divided among the four budgets below.",
    )
    memory_bodies: PositiveInt = Field(
        default_factory=_tenths(2),
        description="Memory for request bodies and for the log probabilities of answers. A body counts twice "
        "its size while it is read. Default: two tenths of `GATEWAY_MEMORY`.",
    )
    memory_stored: PositiveInt = Field(
        default_factory=_tenths(1),
        description="Memory for data read from storage (conversations, lists, files, batch lines) and for "
        "rendered images, until it is sent. Default: a tenth.",
    )
    memory_images: PositiveInt = Field(
        default_factory=_tenths(1),
        description="Memory for encoded images, fetched or decoded from base64. Default: a tenth.",
    )
    memory_pixels: PositiveInt = Field(
        default_factory=_tenths(6),
        description="Memory for images while they are decoded; a quarter is reserved for small ones. "
        "Default: six tenths.",
    )
