"""Set-up does what is needed, once, and heals what was interrupted."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def install(tmp_path: Path) -> ModuleType:
    """Return the set-up program of a checkout of its own, which has no `.venv` yet."""
    (tmp_path / "engine_config").mkdir()
    for name in ("pyproject.toml", "engine_config/install.py", "engine_config/torchvision_operators.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    spec = importlib.util.spec_from_file_location("install", tmp_path / "engine_config/install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["install"] = module
    spec.loader.exec_module(module)
    return module


def program(install: ModuleType) -> Path:
    return Path(install.ROOT, "engine_config/install.py")


@pytest.fixture
def labels(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the stages that are run, none of which does anything."""
    ran: list[str] = []
    monkeypatch.setattr(install.Stages, "run", lambda _self, label, *_command: ran.append(label))
    monkeypatch.setattr(install, "missing_packages", lambda _engine: [])
    monkeypatch.setattr(install, "mend", lambda _venv, _stages: None)
    return ran


CPU_STAGES = [
    "making .venv",
    "torch for the CPU (0.2 GB to fetch)",
    "vLLM and the gateway [cpu] (0.7 GB to fetch, 3.9 GB on disk)",
]


def test_the_second_run_says_nothing_and_takes_less_than_a_second(install: ModuleType) -> None:
    venv = install.ROOT / ".venv"
    venv.mkdir()
    install.write_stamp(venv / "set-up.json", install.wanted_stamp(install.ROOT, "cpu", dev=True))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-I", program(install), "--dev", "--engine", "cpu"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert time.monotonic() - began < 1


def test_a_finished_set_up_is_not_done_again(install: ModuleType, labels: list[str]) -> None:
    install.set_up("cpu", dev=False)
    install.set_up("cpu", dev=False)
    assert labels == CPU_STAGES


def test_an_interrupted_set_up_starts_afresh(
    install: ModuleType, labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(install, "mend", lambda _venv, _stages: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            install.set_up("cpu", dev=False)
    half_done = install.ROOT / ".venv/half-done"
    half_done.touch()
    install.set_up("cpu", dev=False)
    assert labels == 2 * CPU_STAGES
    assert not half_done.exists()


def test_another_engine_gets_another_environment(install: ModuleType, labels: list[str]) -> None:
    install.set_up("cpu", dev=False)
    install.set_up("gpu", dev=False)
    assert labels[3:] == ["making .venv", "vLLM and the gateway [gpu] (several GB to fetch)"]


def test_new_requirements_are_installed_into_the_environment_there_is(
    install: ModuleType, labels: list[str]
) -> None:
    install.set_up("cpu", dev=False)
    with (install.ROOT / "pyproject.toml").open("a") as pyproject:
        pyproject.write("# changed\n")
    install.set_up("cpu", dev=False)
    assert labels[3:] == CPU_STAGES[1:]


def test_what_tests_need_comes_on_top_and_stays(install: ModuleType, labels: list[str]) -> None:
    install.set_up("cpu", dev=False)
    install.set_up("cpu", dev=True)
    install.set_up("cpu", dev=False)
    assert labels[3:] == [CPU_STAGES[1], "vLLM and the gateway [cpu,dev] (0.7 GB to fetch, 3.9 GB on disk)"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": "m"}'])
def test_a_broken_stamp_is_none(install: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "stamp").write_text(text)
    assert install.read_stamp(tmp_path / "stamp") is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "echo 'GPU 0: NVIDIA L4 (UUID: GPU-1)'",
            ("gpu", "nvidia-smi shows GPU 0: NVIDIA L4"),
        ),
        ("echo 'No devices found.'", ("cpu", "nvidia-smi shows no GPU")),
        ("echo 'GPU 0: lost'; exit 9", ("cpu", "nvidia-smi shows no GPU")),
        (None, ("cpu", "there is no nvidia-smi")),
    ],
)
def test_the_engine_is_cuda_where_nvidia_smi_shows_a_gpu(
    install: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    expected: tuple[str, str],
) -> None:
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.this_machines_engine() == expected


def test_a_stage_that_fails_shows_the_end_of_its_output(install: ModuleType, tmp_path: Path) -> None:
    stages = install.Stages(tmp_path / "log")
    with pytest.raises(install.SetupFailed) as failed:
        stages.run("counting", "sh", "-c", "seq 1 100; exit 1")
    lines = str(failed.value).splitlines()
    assert lines[:-1] == [str(number) for number in range(81, 101)]
    assert lines[-1] == f"counting: failed; all of its output is in {tmp_path / 'log'}"


def test_sigterm_ends_what_set_up_has_started(install: ModuleType, tmp_path: Path) -> None:
    script = (
        "import runpy, signal, sys, pathlib\n"
        "install = runpy.run_path(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, install['_stop'])\n"
        "stages = install['Stages'](pathlib.Path('log'))\n"
        "stages.run('sleeping', 'sh', '-c', 'echo $$ > part; mv part pid; exec sleep 60')\n"
    )
    running = subprocess.Popen([sys.executable, "-c", script, program(install)], cwd=tmp_path)
    pid = tmp_path / "pid"
    while not pid.exists():
        time.sleep(0.02)
    running.terminate()
    assert running.wait(timeout=10) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_who_may_not_install_packages_is_told_what_to_type(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(install.SetupFailed) as failed:
        install.install_packages(["libnuma1"])
    assert str(failed.value) == (
        "missing on this machine; as root, run: apt-get install -y --no-install-recommends libnuma1"
    )


def test_the_import_hook_loads_nothing_until_torchvision_is_asked_for() -> None:
    hook = ROOT / "engine_config/torchvision_operators.py"
    script = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.call([sys.executable, "-I", "-c", script, hook]) == 0
