"""What surrounds set-up: the environment of the commands that it runs, and whether it may write here.

The standard library alone, because set-up runs before anything is installed.
"""

import os
import pwd
from pathlib import Path

from engine_config.preflight import SetupFailed

# Modules from elsewhere, and other places to install to.
DROPPED = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
# These override pip.conf too: a variable without a value would not.
FORCED = {"PIP_USER": "0", "PIP_NO_DEPS": "0", "PIP_REQUIRE_HASHES": "0", "PIP_DRY_RUN": "0"}


def environment() -> dict[str, str]:
    """Return this environment without what would make pip install something else, or elsewhere."""
    return {name: value for name, value in os.environ.items() if name not in DROPPED} | FORCED


def provide_home(venv: Path) -> None:
    """Set HOME to `venv` if this user has none: `docker run --user` with an id that has no name."""
    if "HOME" in os.environ:
        return
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        # Otherwise pip makes a folder named `~` here. Its cache would double the size of .venv.
        os.environ |= {"HOME": str(venv), "PIP_NO_CACHE_DIR": "1"}


def check_writable(root: Path) -> None:
    """Check that `.venv` can be made in `root`, or replaced there. Raises SetupFailed."""
    for folder in (root, root / ".venv"):
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            owner = folder.stat().st_uid
            raise SetupFailed(
                f"{folder} cannot be written by this user (uid {os.geteuid()}; it belongs to uid {owner}): "
                "use a clone of your own, or run this as its owner"
            )
