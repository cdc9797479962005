"""The budgets of memory; docs/memory.md has their sum."""

from typing import Any

from pydantic import Field, PositiveInt

from gateway.settings.group import Group


def _share(tenths: int) -> Any:
    """Return a default: so many tenths of `memory`."""
    return lambda data: max(1, data["memory"] * tenths // 10)


class Memory(Group):
    """The budgets of memory; docs/memory.md has their sum."""

    memory: PositiveInt = Field(
        default=5 * 2**29,
        description="Memory for what requests hold, shared out between the four budgets below.",
    )
    memory_bodies: PositiveInt = Field(
        default_factory=_share(2),
        description="Memory for request bodies, and for answers' log probabilities. A body counts twice its "
        "size while it is read. Default: two tenths of `GATEWAY_MEMORY`.",
    )
    memory_stored: PositiveInt = Field(
        default_factory=_share(1),
        description="Memory for what is read from the storage (conversations, lists, files, lines of "
        "batches), and for rendered images, until their clients have them. Default: a tenth.",
    )
    memory_images: PositiveInt = Field(
        default_factory=_share(1),
        description="Memory for encoded images (fetched, or decoded from base64). Default: a tenth.",
    )
    memory_pixels: PositiveInt = Field(
        default_factory=_share(6),
        description="Memory for images while they are decoded; a quarter is for small ones. Default: six "
        "tenths.",
    )
