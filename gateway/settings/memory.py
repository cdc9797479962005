"""The budgets of memory; docs/memory.md has their sum."""

from pydantic import Field, PositiveInt

from gateway.settings.group import Group


class Memory(Group):
    """The budgets of memory; docs/memory.md has their sum."""

    memory_bodies: PositiveInt = Field(
        default=2**29,
        description="Memory for request bodies, and for answers' log probabilities. "
        "A body counts twice its size while it is read.",
    )
    memory_stored: PositiveInt = Field(
        default=2**28,
        description="Memory for what is read from the storage (conversations, lists, files, lines of "
        "batches), and for rendered images, until their clients have them.",
    )
    memory_images: PositiveInt = Field(
        default=2**28, description="Memory for encoded images (fetched, or decoded from base64)."
    )
    memory_pixels: PositiveInt = Field(
        default=3 * 2**29,
        description="Memory for images while they are decoded; a quarter is for small ones.",
    )
