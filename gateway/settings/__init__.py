"""Every setting of the gateway: an environment variable `GATEWAY_<NAME>`, checked once, then frozen."""

import difflib
import os
from typing import Any, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.settings.access import Access, CacheScope
from gateway.settings.connections import Connections
from gateway.settings.conversations import AutoTools, Conversations, History, Overflow, Place
from gateway.settings.images import Decode, Fit, Images
from gateway.settings.memory import Memory
from gateway.settings.requests import Requests
from gateway.settings.service import Service
from gateway.settings.storage import Storage

__all__ = ["AutoTools", "CacheScope", "Decode", "Fit", "History", "Overflow", "Place"]

PREFIX = "GATEWAY_"
GROUPS = (Service, Access, Connections, Requests, Conversations, Images, Memory, Storage)


class UnknownSetting(ValueError):
    """An environment variable begins with GATEWAY_ but there is no such setting."""


class Settings(Service, Access, Connections, Requests, Conversations, Images, Memory, Storage, BaseSettings):
    """What an operator may choose: the settings of all groups, each by its name alone."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

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


def load(**chosen: Any) -> Settings:
    """Return the settings of the environment, overridden by `chosen`.

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
    """Return what is wrong with which setting, and the value it got."""
    return "; ".join(
        f"{PREFIX}{str(found['loc'][0]).upper()}: {found['msg']}; got {found['input']!r}"
        for found in error.errors(include_url=False)
        if found["type"] != "default_factory_not_called"  # It follows from another that is wrong.
    )
