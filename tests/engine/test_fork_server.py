"""The fork server's children have the right environment and files, and no process outlives the gateway."""

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from engine_config import profile as profiles
from gateway.engine import fork_server, runtime_directory
from gateway.settings import Settings
from tests.engine.forking import COLOUR

SOON = 10.0  # seconds; it takes a hundredth


@dataclass
class Child:
    """What a child of the fork server reports, and the files of its gateway."""

    process: psutil.Process
    server: psutil.Process
    environment: tuple[str | None, str | None]
    files: list[str]
    gateways_files: list[str]
    directory: Path


@dataclass
class Parent:
    """The process of `tests.engine.forking`."""

    process: "subprocess.Popen[str]"

    def fork(self) -> Child:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        child, server, colour, later, files, own, directory = ast.literal_eval(self.process.stdout.readline())
        return Child(
            psutil.Process(child), psutil.Process(server), (colour, later), files, own, Path(directory)
        )


def gone(*processes: psutil.Process) -> bool:
    """Return whether `processes` end soon. One that its new parent has not waited for has ended."""
    deadline = time.monotonic() + SOON
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def running(module: str, folder: Path | None = None) -> Iterator[Parent]:
    """Run a parent whose server preloads `module`, which may be in `folder`."""
    command = (sys.executable, "-m", "tests.engine.forking", module)
    path = {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder or ""), os.environ.get("PYTHONPATH"))))}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | path,
    ) as process:
        yield Parent(process)
        process.kill()


@pytest.fixture
def parent() -> Iterator[Parent]:
    with running("gateway.engine.vllm_core") as started:
        yield started


def test_a_child_has_the_environment_but_no_socket_or_lock_of_the_gateway(parent: Parent) -> None:
    child = parent.fork()
    assert child.server.ppid() == parent.process.pid
    assert child.environment == ("red", "too")  # the profile's, and what was set after the server started
    begun_with = set(Path(f"/proc/{child.server.pid}/environ").read_text().split("\0"))
    assert {f"{COLOUR}=red", "HF_HUB_OFFLINE=1", "TORCHDYNAMO_DISABLE=1"} <= begun_with  # for its imports
    servers = [str(link.readlink()) for link in Path(f"/proc/{child.server.pid}/fd").iterdir()]
    assert set(child.gateways_files) & set(child.files + servers) == set()
    assert child.server.num_threads() == 1  # a fork would copy no other


def test_stop_leaves_no_process_and_no_file(parent: Parent) -> None:
    child = parent.fork()
    assert child.directory.exists()
    assert parent.process.stdin is not None
    parent.process.stdin.close()
    assert parent.process.wait(SOON) == 0
    assert gone(child.server, child.process)
    assert not child.directory.exists()


def test_server_and_child_end_with_a_gateway_that_is_killed(parent: Parent) -> None:
    child = parent.fork()
    parent.process.send_signal(signal.SIGKILL)
    assert gone(child.server, child.process)
    runtime_directory._sweep(child.directory.parent)  # as every start does
    assert not child.directory.exists()


def test_a_child_ends_with_a_server_that_is_killed_and_the_next_server_has_the_same_environment(
    parent: Parent,
) -> None:
    first = parent.fork()
    first.server.kill()
    assert gone(first.server, first.process)
    second = parent.fork()
    assert second.server.pid != first.server.pid
    assert second.server.ppid() == parent.process.pid
    assert second.environment == first.environment == ("red", "too")


def test_a_child_is_spawned_if_the_server_dies_while_it_imports(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("raise SystemExit(1)")
    with running("deadly", tmp_path) as parent:
        child = parent.fork()
        assert child.process.ppid() == parent.process.pid
        assert child.environment == ("red", "too")


def test_a_server_ends_with_a_gateway_that_is_killed_while_it_imports(tmp_path: Path) -> None:
    (tmp_path / "vllm.py").write_text(
        "import pathlib, time; pathlib.Path(__file__).with_name('began').touch(); time.sleep(600)"
    )
    with running("gateway.engine.vllm_preload", tmp_path) as parent:
        deadline = time.monotonic() + SOON
        while not (tmp_path / "began").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        family = psutil.Process(parent.process.pid).children(recursive=True)
        parent.process.kill()
        assert gone(*family)


def test_ctrl_c_reaches_the_gateway_and_not_the_server(parent: Parent) -> None:
    child = parent.fork()
    os.kill(child.server.pid, signal.SIGINT)
    assert parent.fork().server.pid == child.server.pid


def test_the_server_loads_the_libraries_that_vllm_would_have_the_core_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ("torch/__init__.py", "torch/lib/libgomp.so.1", "torch.libs/libgomp-a1.so.1")
    for name in (*files, "vllm/__init__.py", "vllm/libs/libtcmalloc_minimal.so.4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("torch", "vllm"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    openmp, malloc = (str(tmp_path / name) for name in (files[2], "vllm/libs/libtcmalloc_minimal.so.4"))
    assert fork_server._libraries("") == f"{openmp}:{malloc}"
    assert fork_server._libraries("/x/libiomp5.so") == f"/x/libiomp5.so:{malloc}"
    assert fork_server._libraries("/x/libtcmalloc.so.4") == f"/x/libtcmalloc.so.4:{openmp}"


@pytest.mark.parametrize(
    ("engine", "settings", "forks"),
    [("cpu", {}, True), ("gpu", {}, False), ("cpu", {"fork_server": False}, False)],
)
def test_only_a_cpu_forks_and_a_setting_turns_it_off(
    engine: str, settings: dict[str, bool], forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(fork_server, "start", lambda profile: started.append(profile.name))
    fork_server.start_if_useful(Settings.model_validate(settings), engine, profiles.load("demo"))
    assert started == (["demo"] if forks else [])
    assert fork_server.started() is None  # so vLLM spawns its core


@pytest.mark.engine
@pytest.mark.proof
def test_what_the_server_imports_asks_only_whether_there_is_cuda() -> None:
    """A process that has used CUDA cannot be forked. torch for CPUs has no CUDA, but the same calls."""
    program = """
import torch
calls = []
for name in ("_lazy_init", "is_available", "device_count"):
    own = getattr(torch.cuda, name)
    setattr(torch.cuda, name, lambda *given, own=own, name=name: calls.append(name) or own(*given))
import gateway.engine.vllm_preload, sys
assert "vllm.v1.engine.core" in sys.modules
print(sorted(set(calls)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["['is_available']"], done.stderr[-3000:]
