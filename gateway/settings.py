"""Every setting of the gateway: an environment variable `GATEWAY_<NAME>`, checked once, then frozen."""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "GATEWAY_"
ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?"
)  # as browsers write it

Fit = Literal["pad", "crop", "squash"]
Place = Literal["auto", "asked"]
AutoTools = Literal["without_images", "always", "never"]
History = Literal["keep_last", "strict"]
Decode = Literal["fast", "exact"]
Names = Annotated[tuple[str, ...], NoDecode]


class UnknownSetting(ValueError):
    """An environment variable begins with GATEWAY_ and names no setting."""


class Settings(BaseSettings):
    """What an operator may choose. Sizes are in bytes, times in seconds; lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    profile: str | None = Field(
        default=None, description="Model and engine settings; chosen by the machine where not set."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )

    api_keys: Names = Field(
        default=(), description="API keys, each `NAME:KEY` or `KEY`; where there are any, one is asked for."
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of hashed API keys, kept by `llava-gateway keys`; read when it changes.",
    )
    open_access: bool = Field(
        default=False, description="Serve without API keys although other machines can reach the address."
    )
    trusted_proxies: Names = Field(
        default=(), description="Networks of proxies whose `GATEWAY_CLIENT_ADDRESS_HEADER` is believed."
    )
    client_address_header: str | None = Field(
        default=None, description="Header in which such a proxy puts the client's address, last in a list."
    )
    metrics_access: Literal["open", "key"] = Field(
        default="open", description="Whether `/metrics` asks for an API key."
    )
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port for `/metrics` alone; it then has no other."
    )
    requests_per_minute: PositiveInt | None = Field(
        default=None, description="Requests per minute and caller; classes in the keys file have their own."
    )
    tokens_per_minute: PositiveInt | None = Field(
        default=None, description="Tokens of prompts and answers per minute and caller; likewise."
    )
    images_per_minute: PositiveInt | None = Field(
        default=None, description="Images per minute and caller; likewise."
    )
    requests_at_once: PositiveInt | None = Field(
        default=None, description="Requests that a caller may have under way at once; likewise."
    )
    limits_url: str | None = Field(
        default=None,
        description="Redis in which replicas count limits together, `redis://…`; else in memory.",
    )
    limits_unreachable: Literal["allow", "refuse"] = Field(
        default="allow", description="What happens to requests while that Redis cannot be reached."
    )
    cors_origins: Names = Field(
        default=(),
        description="Origins whose pages may call the API, such as `https://chat.example.org`; `*` is all.",
    )

    max_running: PositiveInt = Field(
        default=64, description="Requests that may be read, prepared or answered at once."
    )
    max_waiting: NonNegativeInt = Field(
        default=256, description="Requests that may wait for one of those places; more get 503."
    )
    max_wait: PositiveFloat = Field(default=30, description="Longest wait for a place; then 503.")
    max_connections: PositiveInt = Field(
        default=1000,
        description="Open at once. One more closes the longest idle; if all are busy, health alone answers.",
    )
    max_connections_per_address: NonNegativeInt = Field(
        default=800, description="Open connections per client address; 0 means no limit of its own."
    )
    header_max_bytes: PositiveInt = Field(default=32 * 2**10, description="Largest request line and headers.")
    header_max_lines: PositiveInt = Field(default=100, description="Most header lines in a request.")
    header_timeout: PositiveFloat = Field(
        default=20,
        description="Longest time until a new connection, or a request begun, has sent its headers.",
    )
    body_max_bytes: PositiveInt = Field(default=64 * 2**20, description="Largest request body.")
    body_timeout: PositiveFloat = Field(
        default=30, description="Longest time a request body may take to arrive."
    )
    body_min_rate: NonNegativeInt = Field(
        default=1000, description="Least bytes per second of a body, on average, after its first 5 seconds."
    )
    send_timeout: PositiveFloat = Field(
        default=60, description="Longest time a client may take to accept a piece of its answer."
    )
    request_timeout: PositiveFloat = Field(
        default=900, description="Longest time for an answer, from the request's first byte to its last."
    )
    stall_timeout: PositiveFloat = Field(
        default=300, description="Longest time that a request may hear nothing from the engine."
    )
    heartbeat_timeout: PositiveFloat = Field(
        default=30,
        description="Longest time that the engine may give no token, answer no probe and do no work; it is "
        "then replaced.",
    )
    drain_delay: NonNegativeFloat = Field(
        default=0,
        description="Time after SIGTERM in which requests are still taken, while health says not ready.",
    )
    shutdown_timeout: PositiveFloat = Field(
        default=30, description="Time that running requests get to end after that."
    )

    aliases: Names = Field(
        default=(), description="Further names that the model answers to, besides the profile's."
    )
    max_tokens_over: Literal["cut", "refuse"] = Field(
        default="cut", description="What becomes of a `max_tokens` over the room left in the context."
    )
    max_images: PositiveInt = Field(default=7, description="Pictures per request.")
    image_history: History = Field(
        default="keep_last",
        description="What becomes of a conversation with more pictures than fit: `keep_last` leaves out the "
        "oldest, `strict` refuses it.",
    )
    auto_tools: AutoTools = Field(
        default="without_images",
        description="Whether tools are offered where the answer may be text: `without_images` (only in "
        "conversations without pictures), `always` or `never`.",
    )
    max_tool_tokens: PositiveInt = Field(
        default=1024, description="Prompt tokens that the description of tools may take."
    )
    image_max_bytes: PositiveInt = Field(default=20 * 2**20, description="Largest encoded picture.")
    image_max_pixels: PositiveInt = Field(
        default=64_000_000, description="Largest picture in pixels, checked before it is decoded."
    )
    image_fit: Fit | None = Field(
        default=None,
        description="How a picture becomes square: `pad`, `crop` or `squash`; the profile's where not set.",
    )
    image_place: Place | None = Field(
        default=None,
        description="Where pictures stand in a message: `auto` puts them first unless text stands between "
        "two, `asked` leaves them where the client put them; the profile's where not set.",
    )
    image_decode: Decode = Field(
        default="fast", description="`fast` decodes large JPEGs at reduced scale; `exact` never does."
    )
    image_cache_bytes: NonNegativeInt = Field(
        default=256 * 2**20, description="Memory for pictures that are already decoded and fitted."
    )
    image_decode_timeout: PositiveFloat = Field(
        default=10, description="Longest time to decode an image that takes its decoder unusually long."
    )
    memory_bodies: PositiveInt = Field(
        default=2**29, description="Memory for request bodies: twice their size while they are read."
    )
    memory_images: PositiveInt = Field(
        default=2**28, description="Memory for images that are fetched or decoded from base64."
    )
    memory_pixels: PositiveInt = Field(
        default=3 * 2**29,
        description="Memory for images while they are decoded; a quarter is for small ones.",
    )
    image_threads: NonNegativeInt = Field(default=0, description="Threads that decode; 0 is one a core.")
    fetch_images: bool = Field(default=True, description="Whether images are fetched from URLs at all.")
    fetch_hosts: Names = Field(
        default=(), description="Host names that images may be fetched from; any where not set."
    )
    lookup_timeout: PositiveFloat = Field(default=5, description="Longest time to look a host name up.")
    fetch_timeout: PositiveFloat = Field(
        default=10, description="Longest time to fetch a picture, redirects included."
    )
    fetch_max_redirects: NonNegativeInt = Field(default=3, description="Redirects followed, each checked.")
    fetch_allow: Names = Field(
        default=(),
        description="Host names and networks that may be fetched from although they are not public.",
    )

    state_dir: Path | None = Field(
        default=None,
        description="Folder for files, batches and stored responses; `llava-gateway` in the user's "
        "XDG_STATE_HOME where not set. It is not needed for anything else.",
    )
    state_max_bytes: PositiveInt = Field(
        default=10 * 2**30, description="Size that everything stored may have together."
    )
    upload_max_bytes: PositiveInt = Field(default=200 * 10**6, description="Largest uploaded file.")
    upload_timeout: PositiveFloat = Field(
        default=600, description="Longest time that an uploaded file may take to arrive."
    )
    max_uploads: PositiveInt = Field(
        default=8, description="Files that may be uploaded at once; each takes 2 MB of memory."
    )
    batch_max_running: PositiveInt = Field(
        default=8, description="Requests of batches that may run at once where no others do."
    )
    state_ttl: PositiveInt = Field(
        default=30 * 86400, description="Time that responses, batches and their files are stored."
    )

    @field_validator(
        "aliases", "fetch_allow", "fetch_hosts", "cors_origins", "api_keys", "trusted_proxies", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks

    @field_validator("client_address_header")
    @classmethod
    def _lower_case(cls, header: str | None) -> str | None:
        return header.lower() if header else header

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and ORIGIN.fullmatch(origin) is None:
                raise ValueError(f"{origin!r} is not an origin: scheme, host and port alone, in lower case")
        return origins

    @field_validator("fetch_allow")
    @classmethod
    def _networks_are_networks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if "/" in name:
                ip_network(name)
        return names


def load(**chosen: Any) -> Settings:
    """Return the settings of the environment, with `chosen` laid over them.

    Raises UnknownSetting for a misspelt GATEWAY_ variable and pydantic's ValidationError for a bad value.
    """
    for name in os.environ:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in Settings.model_fields:
            raise UnknownSetting(f"{name}: there is no such setting")
    return Settings(**{name: value for name, value in chosen.items() if value is not None})


def explain(error: ValidationError) -> str:
    """Return what is wrong with which setting, and the value that came."""
    return "; ".join(
        f"{PREFIX}{str(found['loc'][0]).upper()}: {found['msg']}; {found['input']!r} came"
        for found in error.errors(include_url=False)
    )


def page() -> str:
    """Return docs/settings.md: every setting with its variable, default and meaning."""
    lines = [
        "# Settings",
        "",
        "Environment variables; sizes are in bytes, times in seconds, lists are separated by commas. A",
        "misspelt variable is refused at the start. This page is written by `llava-gateway settings`.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        lines.append(f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value in (None, ()):
        return "none"
    return f"`{value}`"
