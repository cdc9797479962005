"""Every setting of the gateway: an environment variable `GATEWAY_<NAME>`, checked once, then frozen."""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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
CacheScope = Literal["caller", "shared"]
Names = Annotated[tuple[str, ...], NoDecode]


class UnknownSetting(ValueError):
    """An environment variable begins with GATEWAY_ but there is no such setting."""


class Settings(BaseSettings):
    """What an operator may choose. Sizes are in bytes, times in seconds; lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    profile: str | None = Field(
        default=None, description="Profile: model and engine settings. By default chosen to fit the machine."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest log level that is printed."
    )

    playground: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Serve the playground at `/`; `auto` does where the gateway listens on loopback.",
    )
    api_keys: Names = Field(
        default=(), description="API keys, each `NAME:KEY` or `KEY`. If any are set, every request needs one."
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of hashed API keys, written by `llava-gateway keys`. Reloaded when it changes.",
    )
    open_access: bool = Field(
        default=False,
        description="Allow serving without API keys on an address that other machines can reach.",
    )
    trusted_proxies: Names = Field(
        default=(), description="Networks of proxies whose `GATEWAY_CLIENT_ADDRESS_HEADER` is trusted."
    )
    client_address_header: str | None = Field(
        default=None,
        description="Header in which a trusted proxy sends the client's address (the last in a list counts).",
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
    requests_per_minute: PositiveInt | None = Field(
        default=None, description="Requests per minute per caller. Classes in the keys file can override it."
    )
    tokens_per_minute: PositiveInt | None = Field(
        default=None, description="Prompt and answer tokens per minute per caller. Classes can override it."
    )
    images_per_minute: PositiveInt | None = Field(
        default=None, description="Images per minute per caller. Classes can override it."
    )
    requests_at_once: PositiveInt | None = Field(
        default=None, description="Concurrent requests per caller. Classes can override it."
    )
    limits_url: str | None = Field(
        default=None,
        description="Redis where replicas share their limits, `redis://…`. By default limits are in memory.",
    )
    limits_unreachable: Literal["allow", "refuse"] = Field(
        default="allow", description="Whether to `allow` or `refuse` requests while Redis cannot be reached."
    )
    cors_origins: Names = Field(
        default=(),
        description="Allowed CORS origins, such as `https://chat.example.org`; `*` allows all.",
    )

    max_running: PositiveInt = Field(
        default=64,
        description="Maximum concurrent requests. Default: 64, or twice the engine's `max_num_seqs` if "
        "that is more.",
    )
    max_waiting: NonNegativeInt = Field(default=256, description="Maximum queued requests; more get 503.")
    max_wait: PositiveFloat = Field(default=30, description="Maximum time in the queue; then 503.")
    max_connections: PositiveInt = Field(
        default=1000,
        description="Maximum open connections; past it the longest idle one is closed.",
    )
    max_connections_per_address: NonNegativeInt = Field(
        default=800, description="Maximum open connections per client address; 0 means no limit."
    )
    header_max_bytes: PositiveInt = Field(
        default=32 * 2**10, description="Maximum size of request line and headers."
    )
    header_max_lines: PositiveInt = Field(default=100, description="Maximum header lines in a request.")
    header_timeout: PositiveFloat = Field(
        default=20,
        description="Maximum time for a client to send its request headers.",
    )
    body_max_bytes: PositiveInt = Field(default=64 * 2**20, description="Maximum request body size.")
    body_timeout: PositiveFloat = Field(default=30, description="Maximum time to receive a request body.")
    body_min_rate: NonNegativeInt = Field(
        default=1000, description="Minimum average bytes per second of a body, after its first 5 seconds."
    )
    send_timeout: PositiveFloat = Field(
        default=60, description="Maximum time for a client to accept a piece of its answer."
    )
    request_timeout: PositiveFloat = Field(
        default=900, description="Maximum total time of a request, from its first byte to the answer's last."
    )
    stall_timeout: PositiveFloat = Field(
        default=300, description="Maximum time a request waits for the engine's next output."
    )
    heartbeat_timeout: PositiveFloat = Field(
        default=30,
        description="Maximum time for which the engine shows no sign of life (token, probe, CPU time) before "
        "it is restarted.",
    )
    drain_delay: NonNegativeFloat = Field(
        default=0,
        description="Time after SIGTERM to accept requests while `/health/ready` already answers 503.",
    )
    shutdown_timeout: PositiveFloat = Field(
        default=30, description="Time for running requests to finish after the drain delay."
    )

    aliases: Names = Field(default=(), description="Additional model names that clients may use.")
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
    auto_tools: AutoTools = Field(
        default="without_images",
        description="When to offer tools with `tool_choice: auto`: `without_images` (only in conversations "
        "without images), `always` or `never`.",
    )
    max_tool_tokens: PositiveInt = Field(
        default=1024, description="Maximum prompt tokens for the tools' descriptions."
    )
    image_max_bytes: PositiveInt = Field(default=20 * 2**20, description="Maximum size of an encoded image.")
    image_max_pixels: PositiveInt = Field(
        default=64_000_000, description="Maximum pixels of an image, checked before it is decoded."
    )
    image_fit: Fit | None = Field(
        default=None,
        description="How an image is made square: `pad`, `crop` or `squash`. By default as the profile says.",
    )
    image_place: Place | None = Field(
        default=None,
        description="Where images stand in a message: `auto` puts them first unless there is text between "
        "two of them, `asked` keeps the client's order. By default as the profile says.",
    )
    image_decode: Decode = Field(
        default="fast", description="`fast` decodes large JPEGs at reduced scale; `exact` never does."
    )
    cache_scope: CacheScope | None = Field(
        default=None,
        description="Whether the prefix cache is per `caller` or `shared`. Shared, `cached_tokens` and "
        "response times can show what others sent. Default: `caller` with API keys, else `shared`.",
    )
    image_cache_bytes: NonNegativeInt = Field(
        default=256 * 2**20, description="Memory for the cache of decoded images; 0 turns it off."
    )
    image_decode_timeout: PositiveFloat = Field(
        default=10,
        description="Maximum CPU time to decode a WebP, an AVIF or a JPEG of many scans, in a process of its "
        "own; four times as long by the clock.",
    )
    memory_bodies: PositiveInt = Field(
        default=2**29, description="Memory for request bodies. A body counts twice its size while it is read."
    )
    memory_images: PositiveInt = Field(
        default=2**28, description="Memory for encoded images (fetched, or decoded from base64)."
    )
    memory_pixels: PositiveInt = Field(
        default=3 * 2**29,
        description="Memory for images while they are decoded; a quarter is for small ones.",
    )
    image_threads: NonNegativeInt = Field(default=0, description="Decoding threads; 0 means one per core.")
    fetch_images: bool = Field(default=True, description="Whether images may be fetched from URLs.")
    fetch_hosts: Names = Field(
        default=(), description="The only host names that images may be fetched from. By default any."
    )
    lookup_timeout: PositiveFloat = Field(default=5, description="Maximum time for a DNS lookup.")
    fetch_timeout: PositiveFloat = Field(
        default=10, description="Maximum time to fetch an image, including redirects."
    )
    fetch_max_redirects: NonNegativeInt = Field(
        default=3, description="Maximum redirects per fetch. Each target is checked again."
    )
    fetch_allow: Names = Field(
        default=(),
        description="Host names and networks that may be fetched from even though they are not public.",
    )

    state_dir: Path | None = Field(
        default=None,
        description="Folder for files, batches and stored responses; `$XDG_STATE_HOME/llava-gateway` if not "
        "set.",
    )
    state_max_bytes: PositiveInt = Field(
        default=10 * 2**30, description="Maximum total size of everything stored."
    )
    state_max_bytes_per_caller: PositiveInt | None = Field(
        default=None,
        description="Maximum that one caller's files, batches and responses may take. Default: with API keys "
        "a quarter of `GATEWAY_STATE_MAX_BYTES`, else no limit of its own.",
    )
    upload_max_bytes: PositiveInt = Field(
        default=200 * 10**6, description="Maximum size of an uploaded file."
    )
    upload_timeout: PositiveFloat = Field(
        default=600, description="Maximum time to receive an uploaded file."
    )
    max_uploads: PositiveInt = Field(
        default=8, description="Maximum concurrent uploads; each takes 2 MB of memory."
    )
    batch_max_running: PositiveInt = Field(
        default=8, description="Maximum concurrent batch requests when nothing else runs."
    )
    state_ttl: PositiveInt = Field(
        default=30 * 86400, description="How long responses, batches and their files are stored."
    )

    def completed(self, max_num_seqs: int, *, keyed: bool) -> Self:
        """Return the settings with those chosen that depend on the engine and on whether keys are asked for.

        With fewer requests at once than twice what the engine runs, a large engine would wait for work.
        """
        chosen: dict[str, Any] = {"cache_scope": self.cache_scope or ("caller" if keyed else "shared")}
        if self.state_max_bytes_per_caller is None and keyed:
            chosen["state_max_bytes_per_caller"] = max(1, self.state_max_bytes // 4)
        if "max_running" not in self.model_fields_set:
            chosen["max_running"] = max(self.max_running, 2 * max_num_seqs)
        return self.model_copy(update=chosen)

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
    """Return what is wrong with which setting, and the value it got."""
    return "; ".join(
        f"{PREFIX}{str(found['loc'][0]).upper()}: {found['msg']}; got {found['input']!r}"
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
