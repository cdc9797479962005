"""The engine's directory is private, short enough for sockets, and never stays behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.engine import runtime_directory
from gateway.engine.runtime_directory import PREFIX, RuntimeDirectory

MAKING = (
    "import sys, time; from gateway.engine.runtime_directory import RuntimeDirectory; "
    "print(RuntimeDirectory().path, flush=True); time.sleep(60)"
)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the directory for temporary files of this process and its children."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own paths are too long
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.parametrize("length", [73, 500])
def test_a_long_path_for_temporary_files_leaves_room_for_sockets(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/".ljust(length, "x"))
    made = RuntimeDirectory()
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"{made.path}/{uuid4()}")
        assert made.path.stat().st_mode & 0o777 == 0o700
    finally:
        made.remove()
    assert not made.path.exists()


def test_a_start_removes_what_a_killed_process_left_and_nothing_else(temporary: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", MAKING], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        paths = [Path(process.stdout.readline().strip()) for process in processes if process.stdout]
        dead, alive = paths
        (dead / "socket").touch()
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait()
        foreign = temporary / f"{PREFIX}notes"
        foreign.mkdir()
        (foreign / "file").touch()
        os.utime(foreign, (time.time() - 1e6,) * 2)
        RuntimeDirectory().remove()
        assert not dead.exists()
        assert alive.exists()
        assert (foreign / "file").exists()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    RuntimeDirectory().remove()
    assert [path.name for path in temporary.iterdir()] == [foreign.name]


def test_without_a_place_the_error_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    monkeypatch.setattr(runtime_directory, "SHORT", (Path("/proc"),))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(OSError, match=r"can be written; tried /nonexistent, /proc"):
        RuntimeDirectory()
