"""What a conversation may hold."""

from typing import Literal

from pydantic import Field, PositiveInt

from gateway.settings.group import Group

Place = Literal["auto", "asked"]
AutoTools = Literal["without_images", "always", "never"]
History = Literal["keep_last", "strict"]
Overflow = Literal["refuse", "sample"]


class Conversations(Group):
    """What a conversation may hold."""

    max_tokens_over: Literal["cut", "refuse"] = Field(
        default="cut",
        description="Whether to `cut` or `refuse` a `max_tokens` that exceeds the remaining context.",
    )
    max_images: PositiveInt = Field(default=7, description="Maximum images per request.")
    image_history: History = Field(
        default="keep_last",
        description="What to do with more images than fit: `keep_last` drops the oldest, `strict` "
        "refuses the request.",
    )
    image_overflow: Overflow = Field(
        default="refuse",
        description="What to do with more images in the newest message than fit: `refuse` the request, or "
        "`sample`: keep evenly spaced ones, the first and the last among them.",
    )
    image_place: Place | None = Field(
        default=None,
        description="Where images stand in a message: `auto` puts them first unless there is text between "
        "two of them, `asked` keeps the client's order. By default as the profile says.",
    )
    auto_tools: AutoTools = Field(
        default="without_images",
        description="When to offer tools with `tool_choice: auto`: `without_images` (only in conversations "
        "without images), `always` or `never`.",
    )
