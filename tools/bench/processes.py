"""The CPU time and the memory of a server's processes, from /proc (proc(5))."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

TICKS = os.sysconf("SC_CLK_TCK")  # a second
LEAST = 0.005  # of a core
IDLE = 0.05  # of a core, of a whole group
LOOK_EVERY = 0.3  # seconds
MIB = 2**20
NAMES = {"EngineCore": "engine core", "forkserver": "fork server", "resource_tracker": "resource tracker"}


@dataclass(slots=True)
class Use:
    """By process: CPU seconds, the cores kept busy, and the highest resident memory, in MiB."""

    seconds: dict[str, float] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)


@contextmanager
def cores(group: int) -> Iterator[dict[str, float]]:
    """Yield a dictionary that has, once the block ends, the cores that each process of a group kept busy.

    `group` is the process group. Processes of one name are added up.
    """
    busy: dict[str, float] = {}
    before, began = _seconds(group), perf_counter()
    yield busy
    took = perf_counter() - began
    for (number, name), seconds in _seconds(group).items():
        share = (seconds - before.get((number, name), 0.0)) / took
        if share >= LEAST:
            busy[name] = busy.get(name, 0.0) + share


@contextmanager
def use(group: int) -> Iterator[Use]:
    """Yield what the processes of `group` use while the block runs; it is filled in when the block ends."""
    used = Use()
    for number in _members(group):
        with suppress(OSError):
            Path(f"/proc/{number}/clear_refs").write_text("5")  # the peak begins here
    before, began = {number: cpu for number, (cpu, _) in _members(group).items()}, perf_counter()
    yield used
    took = perf_counter() - began
    for number, (cpu, _) in _members(group).items():
        with suppress(OSError, StopIteration):  # It has ended meanwhile.
            folder = Path(f"/proc/{number}")
            kind = name((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            peak = next(line for line in (folder / "status").read_text().splitlines() if "VmHWM" in line)
            spent = cpu - before.get(number, 0.0)
            used.seconds[kind] = used.seconds.get(kind, 0.0) + spent
            used.cores[kind] = used.cores.get(kind, 0.0) + spent / took
            used.peak[kind] = used.peak.get(kind, 0.0) + int(peak.split()[1]) / 1024


def name(command: str) -> str:
    """Return what the process with this command line is."""
    return next((name for word, name in NAMES.items() if word in command), "server")


def settle(group: int, within: float) -> bool:
    """Return True once the processes of `group` are idle, or False after `within` seconds."""
    deadline = perf_counter() + within
    while perf_counter() < deadline:
        with cores(group) as busy:
            time.sleep(LOOK_EVERY)
        if sum(busy.values()) < IDLE:
            return True
    return False


def _seconds(group: int) -> dict[tuple[int, str], float]:
    return {(number, name): cpu for number, (cpu, name) in _members(group).items()}


def _members(group: int) -> dict[int, tuple[float, str]]:
    """Return the CPU time so far and the name of each process in the group, by number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has ended meanwhile.
            stat = (folder / "stat").read_text()
            name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat.rpartition(")")[2].split()
            if int(fields[2]) == group:
                found[int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICKS, name
    return found
