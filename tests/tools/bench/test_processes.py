"""The processor time of a server's processes is theirs and nobody else's."""

import os
import subprocess
import sys

import pytest

from tools.bench import processes

BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_a_groups_processes_are_told_by_name_with_the_cores_that_they_kept_busy() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"input()\n{BURN}\nprint(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as burning:
        assert burning.stdin is not None
        assert burning.stdout is not None
        with processes.cores(burning.pid) as busy:
            burning.stdin.write(b"\n")
            burning.stdin.flush()
            burning.stdout.readline()
        burning.communicate(b"\n")
    (share,) = busy.values()
    assert 0 < share <= 1.2


def test_a_group_that_is_not_there_keeps_nothing_busy() -> None:
    with processes.cores(os.getpid() + 2**23) as busy:
        pass
    assert busy == {}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("VLLM::EngineCore", "engine core"),
        ("python -c from multiprocessing.forkserver import main; main(…)", "fork server"),
        ("python -c from multiprocessing.resource_tracker import main;main(4)", "resource tracker"),
        ("python -m gateway serve --port 1", "server"),
    ],
)
def test_a_process_is_known_by_its_command_line(command: str, expected: str) -> None:
    assert processes.name(command) == expected
