"""Settings of what a conversation may contain."""

from typing import Literal

from pydantic import Field, PositiveInt

from gateway.settings.group import Group

ImagePlace = Literal["auto", "asked"]
AutoTools = Literal["without_images", "always", "never"]
History = Literal["keep_last", "strict"]
Overflow = Literal["refuse", "sample"]


class Conversations(Group):
    """Tokens, images and tools of a conversation."""

    max_tokens_over: Literal["cut", "refuse"] = Field(
        default="cut",
        description="Whether to `cut` or `refuse` a `max_tokens` that exceeds the remaining context.",
    )
    max_images: PositiveInt = Field(default=7, description="Maximum images per request.")
    image_history: History = Field(
        default="keep_last",
        description="What to do if a conversation has too many images: `keep_last` drops the oldest, "
        "`strict` refuses the request.",
    )
    image_overflow: Overflow = Field(
        default="refuse",
        description="What to do if the newest message has too many images: `refuse` the request, or "
        "`sample`: keep evenly spaced ones, including the first and the last.",
    )
    image_place: ImagePlace | None = Field(
        default=None,
        description="Where a message's images go: `auto` puts them first unless there is text between two of "
        "them, `asked` keeps the client's order. Default: the profile's.",
    )
    auto_tools: AutoTools = Field(
        default="without_images",
        description="When to offer tools with `tool_choice: auto`: `without_images` (only in conversations "
        "without images), `always` or `never`.",
    )
