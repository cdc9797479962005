"""Set-up does what is needed, once, and heals what was interrupted."""

import ctypes
import importlib.util
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def install(tmp_path: Path) -> ModuleType:
    """Return the set-up program of a checkout of its own, which has no `.venv` yet."""
    (tmp_path / "engine_config").mkdir()
    # What the image copies before it runs set-up is all that set-up may need.
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    dockerfile = dockerfile.replace("\\\n", "")
    names = re.search(r"^COPY (engine_config/.*\.py) engine_config/$", dockerfile, re.MULTILINE)
    assert names is not None
    for name in ("pyproject.toml", *names[1].split()):
        shutil.copy(ROOT / name, tmp_path / name)
    assert "COPY engine_config/constraints engine_config/constraints\n" in dockerfile
    shutil.copytree(ROOT / "engine_config/constraints", tmp_path / "engine_config/constraints")
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
    monkeypatch.setattr(install, "repair_torch", lambda _venv, _stages: None)
    monkeypatch.setattr(install, "check_filled", lambda _venv: None)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100e9))
    return ran


Script = Callable[[str], None]
L4 = "NVIDIA L4, 22 GiB, compute capability 8.9, driver 580.65.06"
NVIDIA_SMI = "0, GPU-1, NVIDIA L4, 23034, 0, 580.65.06, 8.9"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return a function that puts an nvidia-smi of that shell script on PATH, in place of any other."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(script: str) -> None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "nvidia-smi").chmod(0o755)

    return write


CPU_STAGES = [
    "making .venv",
    "torch for the CPU (0.2 GB to fetch)",
    "vLLM and the gateway [cpu] (0.7 GB to fetch, 3.9 GB on disk)",
]


GPU_STAGE = "vLLM and the gateway [gpu] (4.3 GB to fetch, 9.5 GB on disk)"


def children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_second_run_says_nothing_and_takes_less_than_a_second(install: ModuleType) -> None:
    venv = install.ROOT / ".venv"
    venv.mkdir()
    install.write_stamp(venv / "set-up.json", install.wanted_stamp(install.ROOT, "cpu", dev=True))
    began = children_cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-I", program(install), "--dev", "--engine", "cpu"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert children_cpu_seconds() - began < 1  # by the clock, a busy machine may take longer


def test_a_finished_set_up_is_not_done_again(install: ModuleType, labels: list[str]) -> None:
    install.set_up("cpu", dev=False)
    install.set_up("cpu", dev=False)
    assert labels == CPU_STAGES


def test_an_interrupted_set_up_starts_over(
    install: ModuleType, labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(install, "repair_torch", lambda _venv, _stages: signal.raise_signal(signal.SIGINT))
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
    assert labels[3:] == ["making .venv", GPU_STAGE]


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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"engine": "cpu"}'])
def test_a_broken_stamp_is_none(install: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "stamp").write_text(text)
    assert install.read_stamp(tmp_path / "stamp") is None


def test_the_engine_is_cuda_where_nvidia_smi_shows_a_gpu(
    install: ModuleType,
    labels: list[str],
    nvidia_smi: Script,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nvidia_smi(f"echo '{NVIDIA_SMI}'")
    install.set_up(None, dev=False)
    assert labels == ["making .venv", GPU_STAGE]
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"set-up  gpu engine ({L4})")


@pytest.mark.parametrize("script", [None, "echo 'No devices were found'"])
def test_the_engine_is_the_cpus_where_there_is_no_gpu(
    install: ModuleType, labels: list[str], nvidia_smi: Script, script: str | None
) -> None:
    if script:
        nvidia_smi(script)
    install.set_up(None, dev=False)
    assert labels == CPU_STAGES


@pytest.mark.parametrize(
    "script", ["echo 'Failed to initialize NVML'; exit 18", "echo 'No devices were found'", "rm $0; exit 1"]
)
def test_an_environment_keeps_its_engine_when_nvidia_smi_changes_its_answer(
    install: ModuleType, labels: list[str], nvidia_smi: Script, script: str
) -> None:
    nvidia_smi(f"echo '{NVIDIA_SMI}'")
    install.set_up(None, dev=False)
    kept = install.ROOT / ".venv/kept"
    kept.touch()
    nvidia_smi(script)
    install.set_up(None, dev=False)
    install.set_up(None, dev=True)
    assert kept.exists()
    assert labels[2:] == [GPU_STAGE.replace("[gpu]", "[gpu,dev]")]


def test_a_gpu_that_appears_later_changes_nothing_until_it_is_asked_for(
    install: ModuleType, labels: list[str], nvidia_smi: Script
) -> None:
    install.set_up(None, dev=False)
    nvidia_smi(f"echo '{NVIDIA_SMI}'")
    install.set_up(None, dev=False)
    assert labels == CPU_STAGES
    install.set_up("gpu", dev=False)
    assert labels[3:] == ["making .venv", GPU_STAGE]


def test_a_probe_that_fails_before_the_first_set_up_asks_for_the_choice(
    install: ModuleType, labels: list[str], nvidia_smi: Script
) -> None:
    nvidia_smi("echo 'Driver/library version mismatch'; exit 18")
    with pytest.raises(install.SetupFailed) as failed:
        install.set_up(None, dev=False)
    assert str(failed.value) == (
        "nvidia-smi failed with exit code 18: Driver/library version mismatch\n"
        "set-up: whether this machine has a GPU is unknown: repair the driver, or choose the engine with "
        "ENGINE=gpu or ENGINE=cpu"
    )
    assert labels == []


@pytest.mark.parametrize("engine", [None, "gpu"])
def test_a_machine_that_cannot_run_the_engine_is_told_before_anything_is_fetched(
    install: ModuleType, labels: list[str], nvidia_smi: Script, engine: str | None
) -> None:
    rows = ("0, GPU-1, Tesla P100, 16384, 0, 535.10, 6.0", "1, GPU-2, NVIDIA L4, 23034, 0, 535.10, 8.9")
    nvidia_smi("\n".join(f"echo '{row}'" for row in rows))
    with pytest.raises(install.SetupFailed) as failed:
        install.set_up(engine, dev=False)
    assert str(failed.value).splitlines() == [
        (
            "the NVIDIA driver is 535.10; vLLM's CUDA 13 needs 580 or later: update the driver "
            "(https://www.nvidia.com/drivers)"
        ),
        "set-up: Tesla P100 has compute capability 6.0; vLLM needs 7.5 or later (Turing: T4, RTX 20)",
        "set-up: the CPU engine runs here with the demo model: make serve ENGINE=cpu",
    ]
    assert labels == []


def test_an_image_for_a_gpu_is_built_on_a_machine_without_one(
    install: ModuleType,
    labels: list[str],
    nvidia_smi: Script,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del nvidia_smi  # PATH has none.
    install.set_up("gpu", dev=False)
    assert labels == ["making .venv", GPU_STAGE]
    assert "the driver and the GPU cannot be checked here" in capsys.readouterr().out


def test_too_small_a_disk_is_told_before_anything_is_fetched_or_removed(
    install: ModuleType, labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install.set_up("cpu", dev=False)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3_000_000_000))
    with pytest.raises(
        install.SetupFailed, match=r"has 3\.0 GB free; the gpu engine needs [\d.]+ GB: make room"
    ):
        install.set_up("gpu", dev=False)
    install.set_up("cpu", dev=False)
    assert labels == CPU_STAGES


def test_a_stage_that_fails_shows_the_end_of_its_output(install: ModuleType, tmp_path: Path) -> None:
    stages = install.Stages(tmp_path / "log")
    with pytest.raises(install.SetupFailed) as failed:
        stages.run("counting", "sh", "-c", "seq 1 100; exit 1")
    lines = str(failed.value).splitlines()
    assert lines[:-1] == [str(number) for number in range(81, 101)]
    assert lines[-1] == f"counting: failed; all of its output is in {tmp_path / 'log'}"


PIP = """WARNING: Location 'file:///x/simple/torch/' is ignored: it is neither a file nor a directory.
Collecting torch==2.13.0
  Downloading https://files.example/torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (190.2 MB)
WARNING: Retrying (Retry(total=4)) after connection broken
Installing collected packages: numpy, opencv-python-headless, torch
  Attempting uninstall: setuptools
    Successfully uninstalled setuptools-65.5.0
"""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a stage say every half a second how far it is."""
    monkeypatch.setattr("engine_config.stages.TICK", 0.5)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (1, "fetching"),
        (2, "fetching: looking up torch"),
        (4, "fetching: fetching torch-2.13.0 (190.2 MB)"),
        (7, "fetching: installing 2 of 3 packages: opencv-python-headless"),
    ],
)
def test_a_long_stage_shows_what_pip_does_in_a_log_too(
    install: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lines: int,
    shown: str,
) -> None:
    said = "".join(PIP.splitlines(keepends=True)[:lines])
    script = 'mkdir -p "$2"; touch "$2/INSTALLER"; printf %s "$1"; sleep 1.2'
    stages = install.Stages(tmp_path / "log")
    stages.run("before", "echo", "Collecting vllm")
    stages.run(
        "fetching",
        "sh",
        "-c",
        script,
        "sh",
        said,
        tmp_path / "lib/python3.11/site-packages/numpy-2.3.5.dist-info",
    )
    printed = [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()]
    assert printed[:2] == ["before", "fetching"]
    assert set(printed[2:]) == {shown}


def test_settings_of_pip_and_python_do_not_change_what_is_installed_where(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\nno-deps = true\n")
    for name, value in {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_TARGET": "/nowhere",
        "PYTHONPATH": "/nowhere",
        "PYTHONHOME": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    program = (
        "from pip._internal.commands import create_command; import os\n"
        "options, _ = create_command('install').parse_args(['x'])\n"
        "print(bool(options.use_user_site), bool(options.ignore_dependencies))\n"
        "print(options.target_dir, *os.sys.path)"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True, env=install.environment())
    assert said.startswith("False False\nNone ")
    assert "/nowhere" not in said


def test_user_without_a_home_gets_no_folder_named_tilde(
    install: ModuleType, labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "")  # restored at the end
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 5)
    install.set_up("cpu", dev=False)
    assert labels == CPU_STAGES
    assert install.environment()["HOME"] == str(install.ROOT / ".venv")


@pytest.mark.parametrize("folder", ["", ".venv"])
def test_a_tree_that_cannot_be_written_is_one_sentence(
    install: ModuleType, labels: list[str], monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    refused = install.ROOT / folder
    refused.mkdir(exist_ok=True)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != refused)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(install.SetupFailed) as failed:
        install.set_up("cpu", dev=False)
    assert str(failed.value) == (
        f"{refused} cannot be written by this user (uid 1000; it belongs to uid {os.getuid()}): "
        "use a clone of your own, or run this as its owner"
    )
    assert labels == []


@pytest.mark.parametrize("words", ["No matching distribution found for", "Cannot install"])
def test_torchs_index_out_of_reach_is_named_with_what_to_do(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr("engine_config.torch_index.TORCH_INDEX", "http://127.0.0.1:9/whl/cpu")
    stages = install.Stages(tmp_path / "log")
    with pytest.raises(install.SetupFailed) as failed, install.explain():
        stages.run("torch", "sh", "-c", "echo ERROR: $0 torch==2.13.0+cpu because; exit 1", words)
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert str(failed.value) == (
        f"torch: failed; all of its output is in {tmp_path / 'log'}\n"
        "set-up: 127.0.0.1 cannot be reached ([Errno 111] Connection refused), and no other index of pip has "
        "torch==2.13.0+cpu: set PIP_EXTRA_INDEX_URL to a mirror of http://127.0.0.1:9/whl/cpu, or "
        f"PIP_FIND_LINKS to a folder that holds torch-2.13.0+cpu-{python}-{python}-…_{platform.machine()}.whl"
    )


def test_another_failure_of_pip_is_shown_as_it_is(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine_config.torch_index.TORCH_INDEX", "http://127.0.0.1:9/whl/cpu")
    stages = install.Stages(tmp_path / "log")
    with (
        pytest.raises(install.SetupFailed, match=r"ERROR: No space left\ntorch: failed; all of its"),
        install.explain(),
    ):
        stages.run("torch", "sh", "-c", "echo ERROR: No space left; exit 1")


def test_pip_that_installs_elsewhere_is_told(install: ModuleType) -> None:
    with pytest.raises(install.SetupFailed, match=r"^pip did not install into .*: remove `target`, `prefix`"):
        install.check_filled(install.ROOT / ".venv")


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
    assert running.wait(timeout=60) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_signal_that_comes_while_a_process_starts_ends_that_too(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        install.Stages(tmp_path / "log").run("sleeping", "sleep", "60")
    assert started[0].poll() == -signal.SIGTERM


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


APT_GET = """#!/bin/sh
echo "$@" >> "$CALLS"
case " $* " in
    *" update "*) ;;
    *" download "*) [ $(wc -l < "$CALLS") != 1 ] && touch libnuma1.deb;;
esac
"""
DPKG_DEB = """#!/bin/sh
mkdir -p "$3/usr/lib/x86_64-linux-gnu" && cp "$LIBRARY" "$3/usr/lib/x86_64-linux-gnu/libnuma.so.1"
"""


def test_a_user_who_may_not_install_gets_libnuma_into_the_environment(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in {"apt-get": APT_GET, "dpkg-deb": DPKG_DEB}.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("LIBRARY", str(_file_of("libnuma.so.1")))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("engine_config.debian.shutil.which", lambda name: None if name == "sudo" else name)
    assert install.install_packages(["libnuma1"]) == ["libnuma1"]
    venv = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    install.unpack(["libnuma1"], venv, install.Stages(venv / "log"))
    said = [line.split()[-2:] for line in (tmp_path / "calls").read_text().splitlines()]
    assert said == [["download", "libnuma1"], [said[1][0], "update"], ["download", "libnuma1"]]
    (next(venv.glob("lib/python*/site-packages")) / "vllm.py").touch()
    maps = "import vllm; print(open('/proc/self/maps').read())"
    loaded = subprocess.check_output([venv / "bin/python", "-I", "-c", maps], text=True)
    assert f"{venv}/lib/libnuma.so.1\n" in loaded


def _file_of(library: str) -> Path:
    """Return the file that this machine's `library` is loaded from."""
    own = Path(sys.prefix, "lib", library)  # unpacked by set-up for a user who may not install it
    if own.exists():
        return own
    ctypes.CDLL(library)
    mapped = re.search(
        rf"(/\S*/{library.partition('.')[0]}\S*)$", Path("/proc/self/maps").read_text(), re.MULTILINE
    )
    assert mapped is not None
    return Path(mapped[1])


def test_a_user_who_may_not_install_is_told_when_unpacking_fails(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho E: no network >&2; exit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(install.SetupFailed) as failed:
        install.unpack(["libnuma1"], tmp_path, install.Stages(tmp_path / "log"))
    assert str(failed.value).splitlines()[-1] == (
        "set-up: missing on this machine; as root, run: apt-get install -y --no-install-recommends libnuma1"
    )


def test_the_import_hook_loads_nothing_until_torchvision_is_asked_for() -> None:
    hook = ROOT / "engine_config/torchvision_operators.py"
    script = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.call([sys.executable, "-I", "-c", script, hook]) == 0
