"""Reads from pip's output how far it is, to show it in one short line.

The standard library alone, because set-up runs before anything is installed.
"""

import re
from collections.abc import Iterable
from pathlib import Path

_ORDER = "Installing collected packages: "
_FETCHED = re.compile(r"\s*(?:Downloading|Using cached|Processing) (?:\S*/)?([^/\s]+)(?: \(([\d.]+ \w+)\))?")
_SOUGHT = re.compile(r"\s*Collecting ([A-Za-z0-9._-]+)")


def progress(lines: Iterable[str], site_packages: Path | None, since: float) -> str:
    """Return what pip is doing, or "" if its output does not say.

    `site_packages` is where it installs and `since` when it was started, in seconds since the epoch.
    """
    for line in reversed(list(lines)):
        if line.startswith(_ORDER):
            return _installing(line.removeprefix(_ORDER).strip().split(", "), site_packages, since)
        if found := _FETCHED.match(line):
            name = "-".join(found[1].split("-")[:2])
            return f"fetching {name}" + (f" ({found[2]})" if found[2] else "")
        if found := _SOUGHT.match(line):
            return f"looking up {found[1]}"
    return ""


def _installing(order: list[str], site_packages: Path | None, since: float) -> str:
    """Say which package of `order` is next: pip installs one after the other, INSTALLER among the last."""
    done = set()
    for installer in site_packages.glob("*.dist-info/INSTALLER") if site_packages else ():
        if installer.stat().st_mtime >= since:
            done.add(_normalized(installer.parent.name.split("-")[0]))
    left = [name for name in order if _normalized(name) not in done]
    if not left:
        return f"installed {len(order)} packages"
    return f"installing {len(order) - len(left) + 1} of {len(order)} packages: {left[0]}"


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
