"""Settings of the model, the address and the logs."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from gateway.settings.group import Group, Names

ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?"
)  # as browsers write it


class Service(Group):
    """The model, the address and the logs."""

    profile: str | None = Field(
        default=None,
        description="Name of the profile (model and engine settings). By default one that fits the machine.",
    )
    aliases: Names = Field(default=(), description="Additional model names that clients may use.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    playground: Literal["auto", "on", "off", "share"] = Field(
        default="auto",
        description="Whether to serve the playground at `/`; `auto` does if the gateway listens on loopback. "
        "`share` is for a public demo without API keys: the page and chat only, rate limits per address, "
        "nothing stored.",
    )
    playground_examples: Path | None = Field(
        default=None,
        description="Folder with the playground's examples, each an image `NAME.jpg`, `.png` or `.webp` and "
        "its question in `NAME.txt`. Default: drawn shapes.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="Log format; `auto` is `console` on a terminal and `json` otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    metrics_access: Literal["open", "key"] = Field(
        default="open", description="Whether `/metrics` needs an API key."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Separate port for `/metrics`, which is then not served on the main port.",
    )
    cors_origins: Names = Field(
        default=(),
        description="Allowed CORS origins, such as `https://chat.example.org`; `*` allows all.",
    )

    fork_server: bool = Field(
        default=True,
        description="On a CPU: fork the engine from a process that has imported vLLM, for fast restarts.",
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"{origin!r} is not an origin; expected scheme, host and port in lower case, without path"
                )
        return origins
