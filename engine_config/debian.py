"""Debian's packages that set-up needs: root installs them; another user unpacks two of them into `.venv`.

The standard library alone, because set-up runs before anything is installed.
"""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from engine_config.preflight import Engine, SetupFailed
from engine_config.stages import Stages

LIBNUMA = "libnuma.so.1"
PRELOAD = Path(__file__).with_name("libnuma_preload.py")
VENV = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
# What is unpacked for a package: of the first only the pip is needed that ensurepip would install.
UNPACKED = {VENV: "python3-pip-whl", "libnuma1": "libnuma1"}

# `apt-get download` needs no rights. If there are no package lists, as in an image, they are fetched here.
_DOWNLOAD = """
set -eu
cd "$1"; shift
apt-get download "$@" && exit
mkdir -p state/lists/partial cache/archives/partial
private="-o Dir::State=$PWD/state -o Dir::State::Lists=$PWD/state/lists -o Dir::Cache=$PWD/cache"
apt-get $private -o APT::Update::Post-Invoke-Success::= update && apt-get $private download "$@"
"""


def missing_packages(engine: Engine) -> list[str]:
    """Return the Debian packages of Python and of the engine's libraries that this machine lacks."""
    missing = []
    if importlib.util.find_spec("ensurepip") is None:
        missing.append(VENV)
    if engine == "cpu":
        try:
            ctypes.CDLL(LIBNUMA)  # vLLM's CPU kernels are linked to it; the wheel leaves it out.
        except OSError:
            missing.append("libnuma1")
        return missing
    # Triton compiles a small C launcher for every kernel.
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        missing += ["gcc", "libc6-dev"]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append(f"lib{VENV.removesuffix('-venv')}-dev")
    return missing


def install_packages(packages: Sequence[str]) -> list[str]:
    """Install Debian's `packages` as root; return those that this user has to unpack instead.

    Raises SetupFailed with the command to run if a package can be neither installed nor unpacked.
    """
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        raise SetupFailed(f"missing on this machine (Debian's names): {' '.join(packages)}")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and (shutil.which("sudo") is None or subprocess.call([*sudo, "true"], stderr=subprocess.DEVNULL)):
        if shutil.which("dpkg-deb") and UNPACKED.keys() >= set(packages):
            return list(packages)
        raise SetupFailed(f"missing on this machine; as root, run: {' '.join(install)}")
    print("set-up  as root:", *install, flush=True)
    quiet = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive"]
    if subprocess.call([*quiet, *install, "-qq"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        # A fresh machine has no package lists yet.
        subprocess.run([*quiet, "apt-get", "update", "-qq"], check=False)
        if subprocess.call([*quiet, *install, "-qq"], stdout=subprocess.DEVNULL):
            raise SetupFailed(f"this failed: {' '.join(install)}")
    return []


def unpack(packages: Sequence[str], venv: Path, stages: Stages) -> None:
    """Put pip and libnuma into `venv` from Debian's packages. Raises SetupFailed."""
    folder = venv / "debian"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = [UNPACKED[package] for package in packages]
    try:
        label = f"unpacking {', '.join(names)} into .venv: this user may not install packages"
        stages.run(label, "sh", "-c", _DOWNLOAD, "download", folder, *names)
        for file in folder.glob("*.deb"):
            stages.run(f"unpacking {file.name}", "dpkg-deb", "-x", file, folder)
    except SetupFailed as failed:
        install = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
        raise SetupFailed(f"{failed}\nset-up: missing on this machine; as root, run: {install}") from None
    if VENV in packages:
        wheel = next(folder.glob("usr/share/python-wheels/pip-*.whl"))
        alone = ("install", "--no-index", "--find-links", wheel.parent, "pip")
        stages.run("installing pip", venv / "bin/python", wheel / "pip", *alone)
    if "libnuma1" in packages:
        shutil.copy(next(folder.glob(f"usr/lib/*/{LIBNUMA}")), venv / "lib" / LIBNUMA)
        site_packages = next(venv.glob("lib/python*/site-packages"))
        shutil.copy(PRELOAD, site_packages / "_libnuma_preload.py")
        (site_packages / "libnuma_preload.pth").write_text("import _libnuma_preload\n")
    shutil.rmtree(folder)
