"""Writes `constraints/cpu.txt` and `gpu.txt`: one version for every package that set-up installs.

    make constraints

For the CPU these are the versions installed in `.venv`, which the tests ran with. For the GPU uv resolves the
project's requirements with the same versions wherever vLLM's CUDA build admits them. Local versions are left
out: `torch==2.13.0` admits the build `2.13.0+cpu` too
(https://packaging.python.org/en/latest/specifications/version-specifiers/#version-matching).
"""

import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).with_name("constraints")
PYPROJECT = FOLDER.parent.parent / "pyproject.toml"
HEAD = "# The tested version of every package that set-up installs; written by `make constraints`.\n"


def installed(extras: frozenset[str]) -> dict[str, str]:
    """Return the version of each package that the project needs here with `extras`, and what these need."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    # Not what is installed of the project itself: that may be older than its file.
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    needs = [
        *project["dependencies"],
        *(one for name in extras for one in project["optional-dependencies"][name]),
    ]
    left = [
        (need.name, frozenset(need.extras)) for need in map(Requirement, needs) if _applies(need, frozenset())
    ]
    while left:
        name, wanted = left.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # Set-up removes what cannot be loaded beside a CPU torch.
        pins[canonicalize_name(name)] = found.version.partition("+")[0]
        left += [
            (need.name, frozenset(need.extras))
            for need in map(Requirement, found.requires or ())
            if _applies(need, wanted)
        ]
    return pins


def _applies(need: Requirement, extras: frozenset[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras or {""})


def resolved(uv: str, pins: dict[str, str], *extras: str) -> dict[str, str]:
    """Return uv's versions of what the project needs with `extras`; it keeps those of `pins` where it can."""
    file = FOLDER / "resolved.txt"
    write(file, pins)
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
    machine = ["--no-config", "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
    chosen = [f"--extra={extra}" for extra in extras]
    inputs = ["--output-file", str(file), str(PYPROJECT)]
    try:
        subprocess.run([*command, *machine, *chosen, *inputs], stdout=subprocess.DEVNULL, check=True)  # noqa: S603  # uv's own command line
        return dict(read(file.read_text()))
    finally:
        file.unlink()


def read(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and version of each line `name==version`; comments and empty lines are passed over."""
    for line in text.splitlines():
        name, equals, version = line.partition("#")[0].partition(";")[0].strip().partition("==")
        if equals:
            yield canonicalize_name(name.partition("[")[0]), version.partition("+")[0]


def write(file: Path, pins: dict[str, str]) -> None:
    file.write_text(HEAD + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))


def main() -> None:
    """Write both files; the one argument is uv's command."""
    FOLDER.mkdir(exist_ok=True)
    pins = installed(frozenset({"cpu", "dev"}))
    write(FOLDER / "cpu.txt", resolved(sys.argv[1], pins, "docs") | pins)
    write(FOLDER / "gpu.txt", resolved(sys.argv[1], pins, "gpu", "dev", "docs"))


if __name__ == "__main__":
    main()
