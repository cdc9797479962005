"""Tools of the operating system that a test needs: Debian's packages, installed where they are missing."""

import ctypes
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

# Run as root. A fresh machine has no package lists: a first failure is followed by an update. A service that
# comes with the package must not be started: policy-rc.d is how Debian is told (Debian Policy 9.3.3.1).
_INSTALL = """
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod +x "$policy"
fi
apt() { apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@"; }
install() { apt install -y --no-install-recommends "$1"; }
install "$1" || { apt update && install "$1"; }
"""


def require(command: str, package: str | None = None) -> str:
    """Return the path of `command`, installing Debian's `package` (named like it by default) if need be.

    Where that cannot be done the test is skipped, or in CI fails, and is told how to install it.
    """
    return _provided(command, shutil.which, package or command)


def require_library(library: str, package: str) -> None:
    """Do the same for a shared library."""
    _provided(library, _loaded, package)


def _loaded(library: str) -> str | None:
    try:
        ctypes.CDLL(library)
    except OSError:
        return None
    return library


def _provided(name: str, find: Callable[[str], str | None], package: str) -> str:
    with (Path(tempfile.gettempdir()) / f"debian-packages-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # apt-get takes one at a time, and two tests may want the same.
        found = find(name)
        if found is not None:
            return found
        why = _install(package)
    found = find(name)
    if found is None:
        _give_up(f"{name} is missing ({why}); install it with: apt-get install {package}")
    return found


def _install(package: str) -> str:
    """Try to install `package`; return what was said against it."""
    if shutil.which("apt-get") is None:
        return "there is no apt-get here"
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and (shutil.which("sudo") is None or subprocess.call([*sudo, "true"], stderr=subprocess.DEVNULL)):
        return "only root may install packages"
    command = [*sudo, "sh", "-c", _INSTALL, "install", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    return done.stderr.strip()[-500:] or "its package was installed and does not bring it"


def _give_up(message: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
