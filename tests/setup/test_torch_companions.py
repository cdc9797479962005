"""An environment that pip made: CUDA builds beside a CPU build of torch do not stop the engine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine_config import torch_companions
from engine_config.preflight import SetupFailed
from gateway.cli import app

ROOT = Path(__file__).parents[2]

# What torch's packages do as seen from here: torchvision needs its operators, torchaudio CUDA's libraries.
TORCH = """
from types import SimpleNamespace
defined = []
library = SimpleNamespace(Library=lambda *_: SimpleNamespace(define=defined.append))
"""
TORCHVISION = """
import torch
if not any(operator.startswith("nms(") for operator in torch.defined):
    raise RuntimeError("operator torchvision::nms does not exist")
"""
TORCHAUDIO = "raise OSError('libcudart.so.13: cannot open shared object file')"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return the Python of an environment with a CPU build of torch and CUDA builds of its companions."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    packages = {
        "torch": ("2.13.0+cpu", TORCH),
        "torchvision": ("0.28.0+cu130", TORCHVISION),
        "torchaudio": ("2.11.1+cu132", TORCHAUDIO),
    }
    site_packages = next(tmp_path.glob("lib/python*/site-packages"))
    for name, (version, code) in packages.items():
        (site_packages / name).mkdir()
        (site_packages / name / "version.py").write_text(f"__version__ = '{version}'\n")
        (site_packages / name / "__init__.py").write_text(code)
    return tmp_path / "bin/python"


def run(python: Path, program: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.check_output([python, "-c", program], env=environment, text=True)


PREPARE = "from engine_config.torch_companions import prepare_start; print(*prepare_start(), sep='\\n')"


def test_the_start_installs_the_hook_once_and_says_so(python: Path) -> None:
    pth = next(python.parents[1].glob("lib/python*/site-packages")) / "torchvision_operators.pth"
    assert run(python, PREPARE + "; import torchvision") == (
        f"torch is a CPU build and torchvision and torchaudio are not: installed {pth}, which lets the "
        "engine start all the same; CPU builds are at https://download.pytorch.org/whl/cpu\n"
    )
    assert run(python, PREPARE) == "\n"
    available = "import importlib.util, torchvision; print(importlib.util.find_spec('torchaudio'))"
    assert run(python, available) == "None\n"


def test_a_companion_that_is_a_cpu_build_later_is_not_hidden(python: Path) -> None:
    run(python, PREPARE)
    package = next(python.parents[1].glob("lib/python*/site-packages")) / "torchaudio"
    (package / "version.py").write_text("__version__ = '2.11.1+cpu'\n")
    (package / "__init__.py").write_text("")
    assert run(python, "import torchaudio") == ""


def test_cpu_builds_need_nothing(python: Path) -> None:
    site_packages = next(python.parents[1].glob("lib/python*/site-packages"))
    for name in ("torchvision", "torchaudio"):
        (site_packages / name / "version.py").write_text("__version__ = '0.28.0+cpu'\n")
    assert run(python, PREPARE) == "\n"
    assert not (site_packages / "torchvision_operators.pth").exists()


def test_an_environment_that_cannot_be_written_is_told_with_what_to_install(
    python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages = next(python.parents[1].glob("lib/python*/site-packages"))

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied", "x.pth")

    monkeypatch.setattr(torch_companions, "install_hook", refuse)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(site_packages))
    with pytest.raises(SetupFailed) as failed:
        list(torch_companions.prepare_start())
    assert str(failed.value) == (
        "torch is a CPU build and torchvision and torchaudio are not, and the hook against that cannot be "
        "written ([Errno 13] Permission denied: 'x.pth'): run this once as the owner of the environment, or "
        "install CPU builds: pip install --force-reinstall --no-deps --index-url "
        "https://download.pytorch.org/whl/cpu torchvision torchaudio"
    )


def test_a_missing_libnuma_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(
        SetupFailed, match=r"^libnuma\.so\.1 is missing; as root, run: apt-get install libnuma1$"
    ):
        torch_companions.check_libnuma()


def test_serve_prepares_an_environment_for_the_cpu_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare_start() -> Iterator[str]:
        yield "installed the hook"
        raise SetupFailed("libnuma.so.1 is missing")

    monkeypatch.setattr("gateway.cli.serve.installed_engine", lambda: "cpu")
    monkeypatch.setattr("gateway.cli.common.installed_engine", lambda: "cpu")
    monkeypatch.setattr(torch_companions, "prepare_start", prepare_start)
    done = CliRunner().invoke(app, ["serve", "--profile", "demo"])
    assert (done.exit_code, done.stderr) == (1, "installed the hook\nerror: libnuma.so.1 is missing\n")
