"""The environment of the engine's processes.

They inherit it from this process, which has it only during a start. vLLM's part in this process reads it when
it is imported and started.
"""

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants

from engine_config.profile import EngineProfile

LOGGING = Path(__file__).with_name("vllm_logging.json")
CUDA = Path("/usr/local/cuda")  # where vLLM and FlashInfer look for nvcc last
NVCC_TIMEOUT = 20.0  # seconds for `nvcc --version`


def of_engine(profile: EngineProfile, outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of the engine's processes. Variables set `outside` override the profile."""
    path = os.pathsep.join(
        dict.fromkeys([str(Path(sys.executable).parent), *outside.get("PATH", os.defpath).split(os.pathsep)])
    )
    chosen = {
        "PATH": path,  # ninja is beside the interpreter, and `make serve` does not activate .venv
        "HF_HUB_OFFLINE": "1",  # The model is already on this machine.
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_CONFIG_PATH": str(LOGGING),
        # On a GPU vLLM forks by default, and a fork would copy the locks of this process's threads.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if not has_compiler(path, outside):
        # FlashInfer's sampler is compiled when the engine warms up. Without it vLLM takes Triton's.
        chosen["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    if "VLLM_LOGGING_LEVEL" in {**outside, **profile.environment}:
        # The file sets the level; vLLM's own logging follows the variable.
        del chosen["VLLM_LOGGING_CONFIG_PATH"]
    chosen |= profile.environment
    return {name: value if name == "PATH" else outside.get(name, value) for name, value in chosen.items()}


def of_cpu_engine(profile: EngineProfile, outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the additional variables of an engine on a CPU: nothing is compiled while it serves.

    vLLM compiles some functions when a request first needs them, log probabilities with C++. That takes 20 s
    and, without a compiler and Python's headers, ends the engine. A profile may ask for a compiled model.
    """
    chosen = {"TORCHDYNAMO_DISABLE": "1"} if profile.engine.get("enforce_eager") else {}
    chosen |= {name: value for name, value in profile.environment.items() if name in chosen}
    return {name: outside.get(name, value) for name, value in chosen.items()}


def has_compiler(path: str, outside: Mapping[str, str]) -> bool:
    """Say whether FlashInfer can compile kernels: ninja, and an nvcc of the CUDA that torch is built with.

    nvcc is looked for where vllm.utils.flashinfer does.
    """
    home = outside.get("CUDA_HOME") or outside.get("CUDA_PATH")
    nvcc = shutil.which("nvcc", path=path)
    if home is None and nvcc is None:
        home = str(CUDA)
    if home is not None:
        nvcc = shutil.which(str(Path(home, "bin/nvcc")))
    if nvcc is None or shutil.which("ninja", path=path) is None:
        return False
    # Kernels compiled for another major version fail to load, or to compile against torch's headers.
    return _nvcc_major(nvcc) == _torch_major()


def _nvcc_major(nvcc: str) -> str | None:
    """Return the major version of this compiler's toolkit; None if it does not say."""
    try:
        answer = subprocess.run(  # noqa: S603  # a fixed argument; the program is the one FlashInfer would run
            [nvcc, "--version"], capture_output=True, text=True, timeout=NVCC_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"release (\d+)\.", answer.stdout)
    return found and found[1]


def _torch_major() -> str:
    """Return the major version of the CUDA that torch is built with, "none" for a CPU build.

    torch is not imported: it reads variables such as OMP_NUM_THREADS at its import.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "none"
    version = runpy.run_path(str(Path(spec.origin).with_name("version.py"))).get("cuda")
    return str(version or "none").partition(".")[0]


@contextmanager
def applied(variables: Mapping[str, str]) -> Iterator[None]:
    """Set `variables` in this process's environment until the block ends."""
    before = {name: os.environ.get(name) for name in variables}
    offline = constants.HF_HUB_OFFLINE  # huggingface_hub read the variable when it was imported
    os.environ.update(variables)
    constants.HF_HUB_OFFLINE = offline or variables.get("HF_HUB_OFFLINE") == "1"
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
