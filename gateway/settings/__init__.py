"""Settings of the gateway, read from environment variables `GATEWAY_<NAME>`, validated once and frozen."""

import difflib
import os
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.settings.access import Access, CacheScope
from gateway.settings.connections import Connections
from gateway.settings.conversations import AutoTools, Conversations, History, ImagePlace, Overflow
from gateway.settings.images import Decode, Fit, Images
from gateway.settings.memory import Memory
from gateway.settings.requests import Requests
from gateway.settings.service import Service
from gateway.settings.storage import Storage

__all__ = ["AutoTools", "CacheScope", "Decode", "Fit", "History", "ImagePlace", "Overflow"]

PREFIX = "GATEWAY_"
# Of each address, by default.
SHARE_LIMITS = {"requests_per_minute": 10, "images_per_minute": 20, "requests_at_once": 2}
GROUPS = (Service, Access, Connections, Requests, Conversations, Images, Memory, Storage)


class UnknownSetting(ValueError):
    """An environment variable starts with GATEWAY_ but names no setting."""


class Settings(Service, Access, Connections, Requests, Conversations, Images, Memory, Storage, BaseSettings):
    """All settings of the gateway, grouped by the base classes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _limit_a_public_demo(cls, values: dict[str, Any]) -> dict[str, Any]:
        return SHARE_LIMITS | values if values.get("playground") == "share" else values

    def completed(self, max_num_seqs: int, *, keyed: bool) -> Self:
        """Return the settings with the defaults that depend on the engine and on whether keys are required.

        `max_running` is at least twice `max_num_seqs`: with fewer requests a large engine would idle.
        """
        chosen: dict[str, Any] = {"cache_scope": self.cache_scope or ("caller" if keyed else "shared")}
        if self.state_max_bytes_per_caller is None and keyed:
            chosen["state_max_bytes_per_caller"] = max(1, self.state_max_bytes // 4)
        if "max_running" not in self.model_fields_set:
            chosen["max_running"] = max(self.max_running, 2 * max_num_seqs)
        return self.model_copy(update=chosen)


def load(**chosen: Any) -> Settings:
    """Return the settings from the environment, overridden by `chosen`.

    Raises UnknownSetting for a misspelt GATEWAY_ variable and pydantic's ValidationError for a bad value.
    """
    for name in os.environ:
        field = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and field not in Settings.model_fields:
            raise UnknownSetting(f"{name}: there is no such setting{_did_you_mean(field)}")
    return Settings(**{name: value for name, value in chosen.items() if value is not None})


def _did_you_mean(name: str) -> str:
    """Return a question that names the closest setting, or nothing if none is close."""
    close = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.65)
    return f"; did you mean {PREFIX}{close[0].upper()}?" if close else ""


def explain(error: ValidationError) -> str:
    """Return a message that names each wrong setting, the reason and the value it got."""
    return "; ".join(
        f"{PREFIX}{str(found['loc'][0]).upper()}: {found['msg']}; got {found['input']!r}"
        for found in error.errors(include_url=False)
        if found["type"] != "default_factory_not_called"  # It depends on another setting that is wrong.
    )
