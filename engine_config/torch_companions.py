"""Installs the import hook that a CPU build of torch needs beside CUDA builds of torchvision and others.

The standard library alone, because set-up runs before anything is installed.
"""

import ctypes
import importlib
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from engine_config.preflight import SetupFailed
from engine_config.torch_index import TORCH_INDEX

HOOK = Path(__file__).with_name("torchvision_operators.py")
MODULE, PTH = "_torchvision_operators", "torchvision_operators.pth"
COMPANIONS = ("torchvision", "torchaudio", "torchcodec")


def cuda_builds(site_packages: Path) -> list[str]:
    """Return those of torch's companions in `site_packages` that are CUDA builds."""
    versions = {name: site_packages / name / "version.py" for name in COMPANIONS}
    return [name for name, file in versions.items() if file.exists() and "+cu" in file.read_text()]


def install_hook(site_packages: Path) -> None:
    shutil.copy(HOOK, site_packages / f"{MODULE}.py")
    (site_packages / PTH).write_text(f"import {MODULE}\n")


def remove_hook(site_packages: Path) -> None:
    for file in (f"{MODULE}.py", PTH):
        (site_packages / file).unlink(missing_ok=True)


def prepare_start() -> Iterator[str]:
    """Make the CPU engine importable in an environment that set-up did not make; yield what was done.

    Raises SetupFailed with what to do if that is not possible.
    """
    site_packages = Path(sysconfig.get_path("purelib"))
    found = cuda_builds(site_packages)
    if found and not (site_packages / PTH).exists():
        names = " and ".join(found)
        try:
            install_hook(site_packages)
        except OSError as error:
            raise SetupFailed(
                f"torch is a CPU build and {names} are not, and the hook against that cannot be written "
                f"({error}): run this once as the owner of the environment, or install CPU builds: "
                f"pip install --force-reinstall --no-deps --index-url {TORCH_INDEX} {' '.join(found)}"
            ) from None
        importlib.invalidate_caches()
        importlib.import_module(MODULE)  # in this process; those that start later import it by themselves
        yield (
            f"torch is a CPU build and {names} are not: installed {site_packages / PTH}, "
            f"which lets the engine start all the same; CPU builds are at {TORCH_INDEX}"
        )


def check_libnuma() -> None:
    """Check that vLLM's CPU kernels find the library that they are linked to. Raises SetupFailed."""
    if (Path(sysconfig.get_path("purelib")) / "_libnuma_preload.py").exists():
        return  # set-up's own
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        raise SetupFailed("libnuma.so.1 is missing; as root, run: apt-get install libnuma1") from None
