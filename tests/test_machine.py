"""What the machine has is read from nvidia-smi and the kernel; a probe that fails is not an absent GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine_config import machine
from engine_config.machine import GIB, GPU, KNOWN, MIB, GPUs

A10G = "0, GPU-aa11, NVIDIA A10G, 23028, 3, 580.65.06, 8.6"
T4 = "1, GPU-bb22, Tesla T4, 15360, 0, 580.65.06, 7.5"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of an nvidia-smi of our own, the only program on PATH; it has to be written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "nvidia-smi"


def write(program: Path, *lines: str) -> None:
    program.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    program.chmod(0o755)


def says(program: Path, *rows: str, code: int = 0) -> None:
    write(program, *(f'echo "{row}"' for row in rows), f"exit {code}")


def test_gpus_are_read_with_one_query(nvidia_smi: Path) -> None:
    write(nvidia_smi, 'echo "$@" >> "$0.asked"', f'echo "{A10G}"', f'echo "{T4}"')
    assert machine.probe_gpus() == GPUs(
        "found",
        (
            GPU("NVIDIA A10G", 23028 * MIB, (8, 6), used=3 * MIB),
            GPU("Tesla T4", 15360 * MIB, (7, 5)),
        ),
        "580.65.06",
    )
    (asked,) = nvidia_smi.with_suffix(".asked").read_text().splitlines()
    assert asked == (
        "--query-gpu=index,uuid,name,memory.total,memory.used,driver_version,compute_cap "
        "--format=csv,noheader,nounits"
    )


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["Tesla T4"]),
        ("1,0", ["Tesla T4", "NVIDIA A10G"]),
        ("GPU-aa", ["NVIDIA A10G"]),
        ("0,7,1", ["NVIDIA A10G"]),
        ("", []),
    ],
)
def test_only_gpus_that_cuda_would_see_count(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    says(nvidia_smi, A10G, T4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = machine.probe_gpus()
    assert [gpu.name for gpu in gpus.found] == names
    assert gpus.probe == ("found" if names else "no GPU")


def test_machine_without_nvidia_smi(nvidia_smi: Path) -> None:
    assert not nvidia_smi.exists()
    assert machine.probe_gpus() == GPUs("no nvidia-smi", detail="there is no nvidia-smi on this machine")


@pytest.mark.parametrize("code", [0, 6])
def test_machine_whose_nvidia_smi_shows_no_gpu(nvidia_smi: Path, code: int) -> None:
    says(nvidia_smi, "No devices were found", code=code)
    assert machine.probe_gpus().probe == "no GPU"


@pytest.mark.parametrize(
    ("rows", "code", "detail"),
    [
        (["NVIDIA-SMI has failed"], 9, "nvidia-smi failed with exit code 9: NVIDIA-SMI has failed"),
        (["what?"], 0, "nvidia-smi's answer cannot be read"),
        (["0, GPU-1, X, 1, 2, 580.1, a.b"], 0, "nvidia-smi's answer cannot be read"),
    ],
)
def test_failed_probe_is_not_taken_for_a_machine_without_gpu(
    nvidia_smi: Path, rows: list[str], code: int, detail: str
) -> None:
    says(nvidia_smi, *rows, code=code)
    gpus = machine.probe_gpus()
    assert gpus.probe == "probe failed"
    assert gpus.detail.startswith(detail)


def test_nvidia_smi_that_hangs_is_given_up(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROBE_TIMEOUT", 0.2)
    write(nvidia_smi, "exec /bin/sleep 30")
    gpus = machine.probe_gpus()
    assert (gpus.probe, gpus.detail) == ("probe failed", "nvidia-smi did not answer within 0 s")


def test_driver_too_old_for_the_query_is_still_told(nvidia_smi: Path) -> None:
    write(
        nvidia_smi,
        'case "$1" in *compute_cap*) echo "Field \\"compute_cap\\" is not a valid field."; exit 2;; esac',
        'echo "0, GPU-1, Tesla T4, 15109, 0, 418.67"',
    )
    gpus = machine.probe_gpus()
    assert gpus == GPUs("found", (GPU("Tesla T4", 15109 * MIB, (7, 5)),), "418.67")
    problem = machine.driver_problem(gpus)
    assert problem is not None
    assert problem.startswith("the NVIDIA driver is 418.67; vLLM's CUDA 13 needs 580 or later")


def test_gpu_that_shares_the_machines_memory(nvidia_smi: Path) -> None:
    says(nvidia_smi, "0, GPU-1, NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1")
    (gpu,) = machine.probe_gpus().found
    assert (gpu.memory, gpu.capability) == (machine.memory(), (12, 1))


def test_mig_slice_is_not_taken_for_its_gpu(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(nvidia_smi, A10G)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    assert "names a MIG slice" in machine.probe_gpus().detail


def test_what_vllm_cannot_run_on_is_told() -> None:
    assert machine.driver_problem(GPUs("found", (KNOWN["T4"],), "580.65.06")) is None
    assert machine.driver_problem(GPUs("found", (KNOWN["T4"],), "1000.1")) is None
    assert machine.driver_problem(GPUs("found", (KNOWN["T4"],), "579.99")) is not None
    assert machine.capability_problem(GPU("Tesla V100", 16 * GIB, (7, 0))) == (
        "Tesla V100 has compute capability 7.0; vLLM needs 7.5 or later (Turing: T4, RTX 20)"
    )
    assert all(machine.capability_problem(gpu) is None for gpu in KNOWN.values())


def files(root: Path, **texts: str) -> Path:
    for name, text in ({"proc/meminfo": "MemTotal:  1048576 kB\n"} | texts).items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2_MEMORY = "sys__fs__cgroup__memory_dot_max"
V1_MEMORY = "sys__fs__cgroup__memory__memory_dot_limit_in_bytes"


@pytest.mark.parametrize(
    ("limits", "bytes_"),
    [
        ({}, GIB),
        ({V2_MEMORY: "max\n"}, GIB),
        ({V2_MEMORY: "1000\n"}, 1000),
        ({V1_MEMORY: "2000\n"}, 2000),
        ({V1_MEMORY: "9223372036854771712\n"}, GIB),
    ],
)
def test_memory_is_the_control_groups_where_that_is_less(
    tmp_path: Path, limits: dict[str, str], bytes_: int
) -> None:
    assert machine.memory(files(tmp_path, **limits)) == bytes_


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ({}, 64),
        ({"sys__fs__cgroup__cpu_dot_max": "max 100000\n"}, 64),
        ({"sys__fs__cgroup__cpu_dot_max": "250000 100000\n"}, 2),
        ({"sys__fs__cgroup__cpu_dot_max": "50000 100000\n"}, 1),
        (
            {
                "sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us": "400000\n",
                "sys__fs__cgroup__cpu__cpu_dot_cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us": "-1\n",
                "sys__fs__cgroup__cpu__cpu_dot_cfs_period_us": "100000\n",
            },
            64,
        ),
    ],
)
def test_cores_are_the_control_groups_where_those_are_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], wanted: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert machine.cores(files(tmp_path, **limits)) == wanted


def test_free_disk_is_asked_for_a_folder_that_is_to_be_made(tmp_path: Path) -> None:
    assert machine.free_disk(tmp_path / "a/b/c") > 0


def test_standard_library_is_enough() -> None:
    """Set-up loads the file before anything is installed."""
    code = f"import runpy; runpy.run_path({machine.__file__!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
