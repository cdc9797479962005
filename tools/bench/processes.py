"""What each of a server's processes takes of the processor, from /proc (proc(5))."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

TICKS = os.sysconf("SC_CLK_TCK")  # a second
LEAST = 0.005  # of a core


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


def _seconds(group: int) -> dict[tuple[int, str], float]:
    """Return the CPU time so far of each process in the group, by number and name."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has ended meanwhile.
            stat = (folder / "stat").read_text()
            name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat.rpartition(")")[2].split()
            if int(fields[2]) == group:
                found[int(folder.name), name] = (int(fields[11]) + int(fields[12])) / TICKS
    return found
