"""What this machine has: GPUs and their driver, CPU cores, memory, disk.

The standard library alone, because set-up loads this file before anything is installed.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GIB = 2**30
MIB = 2**20

# vLLM 0.32's wheel holds machine code from 7.5 (Turing) on. It is built with CUDA 13, which needs driver 580:
# https://docs.nvidia.com/deploy/cuda-compatibility/
OLDEST_CAPABILITY = (7, 5)
OLDEST_DRIVER = 580

PROBE_TIMEOUT = 20.0  # seconds; a driver that loads on first use takes some of them
_FIELDS = ("index", "uuid", "name", "memory.total", "memory.used", "driver_version", "compute_cap")

Probe = Literal["found", "no nvidia-smi", "no GPU", "probe failed"]


@dataclass(frozen=True, slots=True)
class GPU:
    """A GPU; memory in bytes, as nvidia-smi counts it."""

    name: str
    memory: int
    capability: tuple[int, int]
    used: int = 0  # by other processes

    def __str__(self) -> str:
        return f"{self.name}, {self.memory / GIB:.0f} GiB, compute capability {dotted(self.capability)}"


@dataclass(frozen=True, slots=True)
class GPUs:
    """What nvidia-smi says. `detail` is why `probe` is not "found", in words."""

    probe: Probe
    found: tuple[GPU, ...] = ()
    driver: str | None = None
    detail: str = ""

    @property
    def count(self) -> int:
        return len(self.found)

    @property
    def first(self) -> GPU | None:
        return self.found[0] if self.found else None

    def __str__(self) -> str:
        if not self.found:
            return self.detail or self.probe
        times = f"{self.count} × " if self.count > 1 else ""
        return f"{times}{self.found[0]}, driver {self.driver}"


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine: what decides which profile it can run. Memory in bytes."""

    gpus: GPUs
    cores: int
    memory: int


# Memory as `nvidia-smi --query-gpu=memory.total` gives it, in MiB.
# Compute capability: https://developer.nvidia.com/cuda-gpus
KNOWN: Mapping[str, GPU] = {
    "T4": GPU("Tesla T4", 15360 * MIB, (7, 5)),
    "L4": GPU("NVIDIA L4", 23034 * MIB, (8, 9)),
    "A10G": GPU("NVIDIA A10G", 23028 * MIB, (8, 6)),
    "RTX3090": GPU("NVIDIA GeForce RTX 3090", 24576 * MIB, (8, 6)),
    "RTX4090": GPU("NVIDIA GeForce RTX 4090", 24564 * MIB, (8, 9)),
    "A100-40": GPU("NVIDIA A100-SXM4-40GB", 40960 * MIB, (8, 0)),
    "A100-80": GPU("NVIDIA A100-SXM4-80GB", 81920 * MIB, (8, 0)),
    "H100": GPU("NVIDIA H100 80GB HBM3", 81559 * MIB, (9, 0)),
    "H200": GPU("NVIDIA H200", 143771 * MIB, (9, 0)),
}


def look() -> Machine:
    """Return what this machine has; takes up to PROBE_TIMEOUT where the driver does not answer."""
    return Machine(probe_gpus(), cores(), memory())


def probe_gpus() -> GPUs:
    """Return the GPUs that nvidia-smi shows, of those the ones that CUDA_VISIBLE_DEVICES leaves."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return GPUs("no nvidia-smi", detail="there is no nvidia-smi on this machine")
    found = _query(program, _FIELDS)
    if (
        "compute_cap" in found.detail
    ):  # Drivers before 470 do not know the field; that they are old is to be said.
        found = _query(program, _FIELDS[:-1])
    return found


def driver_problem(gpus: GPUs) -> str | None:
    """Return why vLLM cannot run with this driver and what to do, or None where it can."""
    if gpus.driver is None or int(gpus.driver.partition(".")[0]) >= OLDEST_DRIVER:
        return None
    return (
        f"the NVIDIA driver is {gpus.driver}; vLLM's CUDA 13 needs {OLDEST_DRIVER} or later: "
        "update the driver (https://www.nvidia.com/drivers)"
    )


def capability_problem(gpu: GPU) -> str | None:
    """Return why vLLM cannot run on this GPU, or None where it can."""
    if gpu.capability >= OLDEST_CAPABILITY:
        return None
    return (
        f"{gpu.name} has compute capability {dotted(gpu.capability)}; "
        f"vLLM needs {dotted(OLDEST_CAPABILITY)} or later (Turing: T4, RTX 20)"
    )


def cores(root: Path = Path("/")) -> int:
    """Return how many CPU cores this process may use: its affinity's or its control group's, if fewer."""
    usable = len(os.sched_getaffinity(0))
    quota, period = _cpu_quota(root)
    return max(1, min(usable, quota // period)) if quota > 0 else usable


def memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may use: the machine's, or its control group's if less."""
    total = next(
        int(line.split()[1]) * 1024
        for line in (root / "proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    limits = (_number(path) for path in _cgroup_files(root, "memory.max", "memory/memory.limit_in_bytes"))
    return min([total, *(limit for limit in limits if limit > 0)])


def free_disk(folder: Path) -> int:
    """Return the bytes that may be written under `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _query(program: str, fields: tuple[str, ...]) -> GPUs:
    command = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT, check=False)  # noqa: S603  # a fixed command
    except subprocess.TimeoutExpired:
        return GPUs("probe failed", detail=f"nvidia-smi did not answer within {PROBE_TIMEOUT:.0f} s")
    except OSError as error:
        return GPUs("probe failed", detail=f"nvidia-smi cannot be run: {error}")
    said = answer.stdout.strip() or answer.stderr.strip()
    if "No devices were found" in said or (answer.returncode == 0 and not said):
        return GPUs("no GPU", detail="nvidia-smi shows no GPU on this machine")
    if answer.returncode != 0:
        return GPUs("probe failed", detail=f"nvidia-smi failed with exit code {answer.returncode}: {said}")
    return _read(said, fields)


def _read(table: str, fields: tuple[str, ...]) -> GPUs:
    try:
        rows = [_row(line, fields) for line in table.splitlines()]
        found = tuple(_gpu(row) for row in _visible(rows))
    except (ValueError, KeyError) as error:
        return GPUs("probe failed", detail=f"nvidia-smi's answer cannot be read ({error!r}): {table}")
    if not found:
        return GPUs("no GPU", detail="CUDA_VISIBLE_DEVICES hides every GPU of this machine")
    return GPUs("found", found, rows[0]["driver_version"])


def _row(line: str, fields: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(fields, (value.strip() for value in line.split(",")), strict=True))


def _gpu(row: dict[str, str]) -> GPU:
    name = row["name"]
    if row["memory.total"].isdigit():
        total, used = int(row["memory.total"]) * MIB, int(row["memory.used"]) * MIB
    else:  # "[N/A]": the GPU shares the machine's memory, as in DGX Spark.
        total, used = memory(), 0
    if "compute_cap" not in row:
        known = next((gpu.capability for gpu in KNOWN.values() if gpu.name == name), (0, 0))
        return GPU(name, total, known, used)
    major, _, minor = row["compute_cap"].partition(".")
    return GPU(name, total, (int(major), int(minor)), used)


def _visible(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows that CUDA_VISIBLE_DEVICES names by index or UUID, in its order; all if it is unset."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return rows
    visible = []
    for wanted in filter(None, (name.strip() for name in chosen.split(","))):
        named = [row for row in rows if row["index"] == wanted or row["uuid"].startswith(wanted)]
        if wanted.startswith("MIG-"):
            raise ValueError("CUDA_VISIBLE_DEVICES names a MIG slice, whose memory the query does not give")
        if not named:  # CUDA, too, ends the list at the first that it does not know.
            break
        visible += named[:1]
    return visible


def _cpu_quota(root: Path) -> tuple[int, int]:
    """Return the control group's quota and period in microseconds; a quota of 0 is no limit."""
    for path in _cgroup_files(root, "cpu.max"):
        quota, _, period = path.read_text().strip().partition(" ")
        return (int(quota), int(period)) if quota != "max" else (0, 1)
    for path in _cgroup_files(root, "cpu/cpu.cfs_quota_us"):
        return max(0, _number(path)), _number(path.with_name("cpu.cfs_period_us"))
    return 0, 1


def _cgroup_files(root: Path, *names: str) -> list[Path]:
    """Return those of the control group's files that are there: version 2 and 1, as a container sees them."""
    return [path for name in names if (path := root / "sys/fs/cgroup" / name).is_file()]


def _number(path: Path) -> int:
    """Return the number in `path`; 0 where it says "max"."""
    text = path.read_text().strip()
    return int(text) if text.lstrip("-").isdigit() else 0
