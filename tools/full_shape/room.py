"""Whether this machine has the memory and the disk for a plan, said before anything is made."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine_config.shape import DTYPE_BYTES
from tools.full_shape.served import Plan

# The gateway, the engine's core and this program itself, without the model.
PROCESSES = 3_500_000_000


class NoRoom(Exception):
    """The machine has too little memory or disk; the message names what is needed and what is free."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of memory, and of disk for temporary files."""

    memory: int
    disk: int

    def __str__(self) -> str:
        return f"{self.memory / 1e9:.1f} GB of memory and {self.disk / 1e9:.1f} GB of disk"


def needed(plan: Plan, *, disk_is_memory: bool) -> Room:
    """Return what `plan` takes. The weights are written as bfloat16, and to memory if the disk is a tmpfs."""
    disk = plan.shape.parameters * DTYPE_BYTES["bfloat16"]
    model = plan.shape.parameters * DTYPE_BYTES[plan.dtype] + plan.kv_gib * 2**30
    return Room(model + PROCESSES + (disk if disk_is_memory else 0), disk)


def free(folder: Path) -> Room:
    """Return what is free on this machine, and under `folder`."""
    return Room(psutil.virtual_memory().available, psutil.disk_usage(str(folder)).free)


def is_memory(folder: Path) -> bool:
    """Return whether files in `folder` lie in memory."""
    mounts = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    path = folder.resolve()
    mount = next((parent for parent in (path, *path.parents) if parent in mounts), None)
    return mount is not None and mounts[mount] in ("tmpfs", "ramfs")


def require(plan: Plan) -> str:
    """Return in words what `plan` needs and this machine has. Raises NoRoom where that is too little."""
    folder = Path(tempfile.gettempdir())
    return compare(needed(plan, disk_is_memory=is_memory(folder)), free(folder), folder)


def compare(need: Room, have: Room, folder: Path) -> str:
    """Return both in words. Raises NoRoom where `need` is more than `have`."""
    words = f"it needs {need}; free are {have} in {folder}"
    if need.memory > have.memory:
        raise NoRoom(f"too little memory: {words}")
    if need.disk > have.disk:
        raise NoRoom(f"too little disk: {words} (TMPDIR names another folder)")
    return words
