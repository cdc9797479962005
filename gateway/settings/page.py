"""docs/settings.md, written from the settings themselves."""

from typing import Any

from gateway.settings import GROUPS, PREFIX


def page() -> str:
    """Return docs/settings.md: every setting with its variable, default and meaning, by group."""
    lines = [
        "# Settings",
        "",
        "Environment variables; sizes are in bytes, times in seconds, lists are separated by commas. A",
        "misspelt variable is refused at the start. This page is written by `llava-gateway settings`.",
    ]
    for group in GROUPS:
        lines += ["", f"## {group.__name__}", "", f"{group.__doc__}", ""]
        lines += ["| variable | default | meaning |", "| --- | --- | --- |"]
        for name, field in group.model_fields.items():
            lines.append(f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value in (None, ()):
        return "none"
    return f"`{value}`"
