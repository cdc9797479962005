"""Writes docs/settings.md from the settings."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.settings import GROUPS, PREFIX, Settings

# The settings that most operators change, in the order in which they need them.
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
        "misspelt variable stops the start with an error. `llava-gateway settings` writes this page.",
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
        return "derived"
    if value in (None, ()):
        return "none"
    return f"`{value}`"
