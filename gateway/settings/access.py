"""Settings of API keys, allowed clients and rate limits."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, field_validator

from gateway.settings.group import Group, Names

HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")  # without port and brackets

CacheScope = Literal["caller", "shared"]


class Access(Group):
    """API keys, allowed clients and rate limits."""

    api_keys: Names = Field(
        default=(),
        description="API keys, each `NAME:KEY` or `KEY`; names must be unique. If any are set, every request "
        "needs one.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of hashed API keys, written by `llava-gateway keys`. Reloaded when it changes.",
    )
    open_access: bool = Field(
        default=False,
        description="Allow serving without API keys on an address that other machines can reach.",
    )
    allowed_hosts: Names = Field(
        default=(),
        description="Host names that clients may use in addition to loopback ones; `*` allows all. The "
        "`Host` header is checked if this is set, and on a loopback address without API keys.",
    )
    trusted_proxies: Names = Field(
        default=(),
        description="Networks of proxies whose `GATEWAY_CLIENT_ADDRESS_HEADER` is trusted.",
    )
    client_address_header: str | None = Field(
        default=None,
        description="Header in which a trusted proxy sends the client's address; the last of a list is used.",
    )
    cache_scope: CacheScope | None = Field(
        default=None,
        description="Whether the prefix cache is per `caller` or `shared`. With `shared`, a caller can learn "
        "whether someone sent the same prompt. Default: `caller` with API keys, else `shared`.",
    )
    requests_per_minute: PositiveInt | None = Field(
        default=None, description="Requests per minute per caller. Classes in the keys file can override it."
    )
    tokens_per_minute: PositiveInt | None = Field(
        default=None,
        description="Prompt and answer tokens per minute per caller; `max_tokens` are reserved when a "
        "request starts. Classes in the keys file can override it.",
    )
    images_per_minute: PositiveInt | None = Field(
        default=None, description="Images per minute per caller. Classes in the keys file can override it."
    )
    requests_at_once: PositiveInt | None = Field(
        default=None, description="Concurrent requests per caller. Classes in the keys file can override it."
    )
    limits_url: str | None = Field(
        default=None,
        description="URL of the Redis in which replicas share rate limits, `redis://…`. By default they are "
        "counted in memory.",
    )
    limits_unreachable: Literal["allow", "refuse"] = Field(
        default="allow",
        description="Whether to `allow` or `refuse` requests when Redis is unreachable or returns an error.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and HOST.fullmatch(host) is None:
                raise ValueError(
                    f"{host!r} is not a host; expected a name or an address in lower case, without port"
                )
        return hosts

    @field_validator("client_address_header")
    @classmethod
    def _lower_case(cls, header: str | None) -> str | None:
        return header.lower() if header else header
