"""Options of the commands that are clients of a running gateway."""

from typing import Annotated
from urllib.parse import urlsplit

import typer

LOCAL = "http://127.0.0.1:8000/v1"


def _checked_url(url: str) -> str:
    """Return the address as OpenAI's clients take it. Raises typer.BadParameter."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"it must start with http:// or https://; got {url!r}")
    return url.rstrip("/")


BaseURL = Annotated[
    str,
    typer.Option(envvar="OPENAI_BASE_URL", callback=_checked_url, help="The gateway's address."),
]
Model = Annotated[str | None, typer.Option(help="Model; default: the first that is served.")]
APIKey = Annotated[
    str,
    typer.Option(envvar="OPENAI_API_KEY", show_default=False, help="API key, if the gateway asks for one."),
]
AtOnce = Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def root_of(base_url: str) -> str:
    """Return the address without `/v1`, where `/metrics` is."""
    return base_url.removesuffix("/v1")
