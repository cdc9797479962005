"""The host's settings of pip and apt, for a new machine that must reach the same indexes."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def variables() -> dict[str, str]:
    """Return pip's settings as environment variables, whatever file they are in, and the proxies."""
    listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    return parse(listed) | {name: os.environ[name] for name in PROXIES if name in os.environ}


def parse(listed: str) -> dict[str, str]:
    """Return the variables of what `pip config list` prints; the environment's come first, as in pip."""
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, equals, value = line.partition("=")
        if equals:
            name = key.rpartition(".")[2].upper().replace("-", "_")
            found[f"PIP_{name}"] = str(ast.literal_eval(value))
    return found


def local_paths(settings: dict[str, str]) -> list[Path]:
    """Return the files and folders of this machine that `settings` name.

    An index in a folder, `…/simple`, links to files beside it: the folder above is meant.
    """
    paths = []
    for word in " ".join(settings.values()).split():
        path = Path(urlsplit(word).path if word.startswith("file://") else word)
        if path.name == "simple" and path.parent != Path("/"):
            path = path.parent
        if path.is_absolute() and path.exists():
            paths.append(path)
    return list(dict.fromkeys(paths))


def apt_proxies() -> str:
    """Return the lines of apt's configuration that name a proxy."""
    dumped = subprocess.check_output(["apt-config", "dump", "Acquire"], text=True)
    return "".join(re.findall(r"^Acquire::\w+::Proxy\b.*\n", dumped, re.MULTILINE))
