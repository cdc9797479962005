"""Makes `.venv` and installs what this machine needs; prints nothing and exits where that is done already.

    python3 -I engine_config/install.py [--dev] [--engine cpu|gpu]

It runs before anything is installed, so it uses the standard library alone. A finished set-up writes a stamp
into `.venv`. An unfinished `.venv` is rebuilt; a finished one keeps its engine unless `--engine` changes it.
"""

import argparse
import fcntl
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NoReturn

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # `python3 -I` leaves out the folder of the program that it runs.

from engine_config import machine
from engine_config.debian import PRELOAD, VENV, install_packages, missing_packages, unpack
from engine_config.preflight import Engine, SetupFailed, check_disk, check_gpu, choose_engine
from engine_config.stages import Stages
from engine_config.surroundings import check_writable, environment, provide_home
from engine_config.torch_companions import HOOK, cuda_builds, install_hook, remove_hook
from engine_config.torch_index import TORCH, TORCH_INDEX, explain

CONSTRAINTS = Path(__file__).with_name("constraints")  # the tested versions, a file for each engine
STAMP = "set-up.json"
SUPPORTED = ((3, 11), (3, 15))  # vLLM 0.32: Requires-Python >=3.11,<3.15


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a finished `.venv` was made for."""

    engine: Engine
    python: str
    root: str  # A virtual environment cannot be moved.
    inputs: str
    dev: bool


def plan(found: Stamp | None, wanted: Stamp) -> Literal["nothing", "update", "rebuild"]:
    """Return what has to be done to a `.venv` with the stamp `found` to get to `wanted`."""
    if found is None:
        return "rebuild"
    if (found.engine, found.python, found.root) != (wanted.engine, wanted.python, wanted.root):
        return "rebuild"
    if found.inputs != wanted.inputs or wanted.dev > found.dev:
        return "update"
    return "nothing"


def read_stamp(path: Path) -> Stamp | None:
    """Return the stamp at `path`, or None if there is none or it cannot be read."""
    try:
        return Stamp(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Write all of the stamp or nothing."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(stamp)))
    part.replace(path)


def wanted_stamp(root: Path, engine: Engine, *, dev: bool) -> Stamp:
    """Return the stamp that `.venv` should have on this machine, for these sources."""
    inputs = hashlib.sha256()
    for source in (root / "pyproject.toml", Path(__file__), HOOK, PRELOAD, CONSTRAINTS / f"{engine}.txt"):
        inputs.update(source.read_bytes())
    major, minor = sys.version_info[:2]
    python = f"{major}.{minor} {Path(sys.executable).resolve()}"
    return Stamp(engine, python, str(root), inputs.hexdigest(), dev)


def fill(venv: Path, engine: Engine, stages: Stages, *, dev: bool) -> None:
    """Install the engine, the gateway and, where `dev`, what its tests need."""
    pip = (venv / "bin/python", "-m", "pip", "install", "--no-input", "--progress-bar", "off")
    if engine == "cpu":
        # Without retries pip skips an index that cannot be reached at once. Without dependencies, because
        # the plain index's torchvision would bring a CUDA torch; the next stage installs the right ones.
        extra = ("--retries", "0", "--timeout", "15", "--extra-index-url", TORCH_INDEX, "--no-deps")
        with explain():
            stages.run("torch for the CPU (0.2 GB to fetch)", *pip, *extra, *TORCH)
    extras = f"{engine},dev" if dev else engine
    size = {"cpu": "0.7 GB to fetch, 3.9 GB on disk", "gpu": "4.3 GB to fetch, 9.5 GB on disk"}[engine]
    versions = ("--constraint", CONSTRAINTS / f"{engine}.txt")
    stages.run(
        f"vLLM and the gateway [{extras}] ({size})", *pip, *versions, "--editable", f"{ROOT}[{extras}]"
    )
    if engine == "cpu":
        repair_torch(venv, stages)


def remove(venv: Path) -> None:
    """Remove an old `.venv`. Raises SetupFailed if some of it is another user's."""
    if venv.exists():
        try:
            shutil.rmtree(venv)
        except OSError as error:
            raise SetupFailed(f"{venv} cannot be removed ({error}): remove it as its owner") from None


def check_filled(venv: Path) -> None:
    """Check that pip installed into `venv`. Raises SetupFailed."""
    if not (venv / "bin/llava-gateway").exists():
        raise SetupFailed(
            f"pip did not install into {venv}: remove `target`, `prefix` or `root` from pip's configuration "
            "(`pip config list` shows it)"
        )


def repair_torch(venv: Path, stages: Stages) -> None:
    """Remove the CUDA builds among torch's companions, or make them importable."""
    python = venv / "bin/python"
    site_packages = next(venv.glob("lib/python*/site-packages"))
    remove_hook(site_packages)
    stages.say("checking torch's companions")
    for name in broken(python, "torchaudio", "torchcodec"):
        # transformers imports whatever is installed, and LLaVA uses neither audio nor video.
        label = f"removing {name}: it cannot be loaded beside a CPU torch and is not needed"
        stages.run(label, python, "-m", "pip", "uninstall", "--yes", name)
    if cuda_builds(site_packages):
        stages.say("torchvision is a CUDA build: declaring its operators at its import")
        install_hook(site_packages)
    if broken(python, "torchvision"):
        raise SetupFailed(
            "torchvision cannot be imported: .venv/bin/python -c 'import torchvision' says why; "
            f"a build for this torch is at {TORCH_INDEX}"
        )


def broken(python: Path, *names: str) -> list[str]:
    """Return the modules that cannot be imported, each tried in a process of its own."""
    tries = {
        name: subprocess.Popen([python, "-c", f"import {name}"], stderr=subprocess.DEVNULL, env=environment())
        for name in names
    }
    return [name for name, process in tries.items() if process.wait() != 0]


def make(venv: Path, engine: Engine, *, rebuild: bool, dev: bool) -> Stages:
    """Make `venv` with everything in it, or update what is in it. Raises SetupFailed."""
    missing = missing_packages(engine)
    if not rebuild and VENV in missing:
        missing.remove(VENV)  # .venv has its pip.
    to_unpack = install_packages(missing) if missing else []
    (venv / STAMP).unlink(missing_ok=True)
    if rebuild:
        remove(venv)
    venv.mkdir(exist_ok=True)
    stages = Stages(venv / "set-up.log", environment())
    if rebuild:
        without_pip = ("--without-pip",) if VENV in to_unpack else ()
        stages.run("making .venv", Path(sys.executable).resolve(), "-m", "venv", *without_pip, venv)
    if to_unpack:
        unpack(to_unpack, venv, stages)
    fill(venv, engine, stages, dev=dev)
    check_filled(venv)
    return stages


def set_up(chosen: Engine | None, *, dev: bool) -> None:
    """Make `.venv`, or bring it up to date. Raises SetupFailed."""
    if not SUPPORTED[0] <= sys.version_info < SUPPORTED[1]:
        raise SetupFailed(f"Python 3.11 to 3.14 is needed; this is {sys.version.split()[0]}")
    venv = ROOT / ".venv"
    stamp = venv / STAMP
    if _is_done(read_stamp(stamp), chosen, dev=dev):
        return
    check_writable(ROOT)
    provide_home(venv)
    with (ROOT / "pyproject.toml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Two at once: the second waits, looks again and finds it done.
        found = read_stamp(stamp)
        if _is_done(found, chosen, dev=dev):
            return
        gpus = machine.probe_gpus()
        engine, why = choose_engine(chosen, found.engine if found else None, gpus)
        wanted = wanted_stamp(ROOT, engine, dev=dev or (found is not None and found.dev))
        todo = plan(found, wanted)
        print(f"set-up  {engine} engine ({why}), Python {sys.version.split()[0]}", flush=True)
        if todo == "rebuild":
            if engine == "gpu" and not gpus.found:
                print(f"set-up  {gpus}: the driver and the GPU cannot be checked here", flush=True)
            elif engine == "gpu":
                check_gpu(gpus)
            check_disk(engine, ROOT)
        stages = make(venv, engine, rebuild=todo == "rebuild", dev=wanted.dev)
        write_stamp(stamp, wanted)
        stages.say("done")


def _is_done(found: Stamp | None, chosen: Engine | None, *, dev: bool) -> bool:
    """Tell whether `.venv` is finished and has what is asked for; the machine is not probed for it."""
    return found is not None and plan(found, wanted_stamp(ROOT, chosen or found.engine, dev=dev)) == "nothing"


def _stop(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make .venv and install what this machine needs.")
    parser.add_argument("--dev", action="store_true", help="also install what the tests need")
    parser.add_argument(
        "--engine",
        choices=("cpu", "gpu"),
        help="default: the engine that is installed, else gpu where nvidia-smi shows one",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        set_up(arguments.engine, dev=arguments.dev)
    except SetupFailed as error:
        sys.exit(f"set-up: {error}")
    except OSError as error:  # A full disk, for one.
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("\nset-up: interrupted; the next run starts over")


if __name__ == "__main__":
    main()
