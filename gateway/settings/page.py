"""docs/settings.md, written from the settings themselves."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.settings import GROUPS, PREFIX, Settings

# What most operators set, in the order in which they come to it.
FIRST: Final = (
    "profile",
    "host",
    "port",
    "playground",
    "keys_file",
    "open_access",
    "fetch_allow",
    "max_running",
    "max_waiting",
    "requests_per_minute",
    "tokens_per_minute",
    "cors_origins",
    "state_dir",
)


def page() -> str:
    """Return docs/settings.md: the settings that most operators need, then all others by group."""
    lines = [
        "# Settings",
        "",
        "Environment variables; sizes are in bytes, times in seconds, lists are separated by commas. A",
        "misspelt variable is refused at the start. This page is written by `llava-gateway settings`.",
        "",
        *_table({name: Settings.model_fields[name] for name in FIRST}),
        "",
        "## Advanced",
    ]
    for group in GROUPS:
        fields = {name: field for name, field in group.model_fields.items() if name not in FIRST}
        lines += ["", f"### {group.__name__}", "", f"{group.__doc__}", "", *_table(fields)]
    return "\n".join(lines) + "\n"


def _table(fields: Mapping[str, FieldInfo]) -> list[str]:
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in fields.items()
    ]
    return ["| variable | default | meaning |", "| --- | --- | --- |", *rows]


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "a share"
    if value in (None, ()):
        return "none"
    return f"`{value}`"
