"""The engine's processes get the profile's environment; the gateway keeps its own."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from engine_config import profile as profiles
from gateway.engine import environment

BARE = {"PATH": "/usr/bin"}


def of(outside: dict[str, str], **variables: str) -> dict[str, str]:
    profile = dataclasses.replace(profiles.load("demo"), environment=variables)
    return environment.of_engine(profile, outside)


def test_profile_says_what_is_not_said_outside() -> None:
    assert of(BARE, COLOUR="red")["COLOUR"] == "red"
    assert of(BARE | {"COLOUR": "blue"}, COLOUR="red")["COLOUR"] == "blue"
    assert of(BARE)["HF_HUB_OFFLINE"] == "1"
    assert of(BARE, VLLM_LOGGING_LEVEL="DEBUG")["VLLM_LOGGING_LEVEL"] == "DEBUG"
    # vLLM's own logging follows the level; by default its lines look like the gateway's.
    assert "VLLM_LOGGING_CONFIG_PATH" not in of(BARE, VLLM_LOGGING_LEVEL="DEBUG")
    assert of(BARE)["VLLM_LOGGING_CONFIG_PATH"] == str(environment.LOGGING)


def test_tools_beside_the_interpreter_are_found_by_the_engine() -> None:
    assert of(BARE)["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"


NVCC = """#!/bin/sh
echo 'nvcc: NVIDIA (R) Cuda compiler driver'
echo 'Cuda compilation tools, release {0}, V{0}.93'
"""


@pytest.fixture
def toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with toolkits of torch's CUDA, and one that is older (`old`)."""
    monkeypatch.setattr(environment, "CUDA", tmp_path / "cuda")
    monkeypatch.setattr(environment, "_torch_major", lambda: "13")
    releases = {"cuda/bin/nvcc": "13.0", "home/bin/nvcc": "13.2", "path/nvcc": "13.0", "old/bin/nvcc": "12.8"}
    for name, release in {**releases, "ninja/ninja": ""}.items():
        tool = tmp_path / name
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(NVCC.format(release))
        tool.chmod(0o755)
    (tmp_path / "mute/bin").mkdir(parents=True)
    (tmp_path / "mute/bin/nvcc").touch(mode=0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("outside", "found"),
    [
        ({"PATH": "{0}/ninja"}, True),  # nvcc where NVIDIA installs it
        ({"PATH": "{0}/path:{0}/ninja"}, True),
        ({"PATH": "{0}/ninja", "CUDA_HOME": "{0}/home"}, True),
        ({"PATH": "{0}/ninja", "CUDA_HOME": "{0}/nowhere"}, False),
        ({"PATH": "{0}/path"}, False),
        # Colab has 12.8: FlashInfer would be compiled for it, but torch has 13.
        ({"PATH": "{0}/ninja", "CUDA_HOME": "{0}/old"}, False),
        ({"PATH": "{0}/old/bin:{0}/ninja"}, False),
        ({"PATH": "{0}/ninja", "CUDA_HOME": "{0}/mute"}, False),
    ],
)
def test_sampler_is_compiled_only_where_it_can_be(
    toolkit: Path, outside: dict[str, str], found: bool
) -> None:
    here = {name: value.format(toolkit) for name, value in outside.items()}
    assert environment.has_compiler(here["PATH"], here) == found


def test_torchs_cuda_is_known_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment._torch_major() == "none"  # the engine for CPUs, which the tests run on
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / "torch/version.py").write_text("cuda = '13.0'\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert environment._torch_major() == "13"


def test_without_a_compiler_vllm_takes_its_other_sampler(toolkit: Path) -> None:
    (toolkit / "cuda/bin/nvcc").unlink()
    assert of(BARE)["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert of(BARE | {"VLLM_USE_FLASHINFER_SAMPLER": "1"})["VLLM_USE_FLASHINFER_SAMPLER"] == "1"


def test_environment_is_ours_only_while_the_engine_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "before")
    monkeypatch.delenv("ADDED", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    before = dict(os.environ)
    with environment.applied({"KEPT": "then", "ADDED": "x", "HF_HUB_OFFLINE": "1"}):
        said = subprocess.run(
            ["/usr/bin/env"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert {"KEPT=then", "ADDED=x", "HF_HUB_OFFLINE=1"} <= set(said)
        # huggingface_hub has read its variable long before.
        assert constants.is_offline_mode()
    assert dict(os.environ) == before
    assert not constants.is_offline_mode()


def test_environment_is_given_back_when_the_start_fails() -> None:
    before = dict(os.environ)
    with pytest.raises(RuntimeError), environment.applied({"ADDED": "x"}):
        raise RuntimeError
    assert dict(os.environ) == before
