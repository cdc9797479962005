"""Each engine's file pins what set-up installs for it, without an address in it."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from engine_config.constraints import FOLDER, HEAD, installed, read

ROOT = Path(__file__).parents[2]
ENGINES = ("cpu", "gpu")
TEXTS = {engine: (FOLDER / f"{engine}.txt").read_text() for engine in ENGINES}
PINS = {engine: dict(read(text)) for engine, text in TEXTS.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_dependency_of_the_project_is_pinned_to_a_version_that_it_admits(engine: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for one in (*project["dependencies"], *extras[engine], *extras["dev"], *extras["docs"]):
        need = Requirement(one)
        name = canonicalize_name(need.name)
        assert name in PINS[engine], f"{need}: run make constraints"
        assert need.specifier.contains(PINS[engine][name]), need


@pytest.mark.parametrize("engine", ENGINES)
def test_each_line_is_a_name_and_a_version_and_nothing_else(engine: str) -> None:
    assert TEXTS[engine].startswith(HEAD)
    pins = TEXTS[engine].removeprefix(HEAD).splitlines()
    assert [line for line in pins if re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+", line) is None] == []
    assert len({line.partition("==")[0] for line in pins}) == len(pins)


def test_torchs_build_for_the_cpu_is_admitted() -> None:
    specifier = Requirement(f"torch=={PINS['cpu']['torch']}").specifier
    assert specifier.contains(Version("2.13.0+cpu"))


def test_everything_that_is_installed_here_for_the_project_is_pinned() -> None:
    here = set(installed(frozenset({"cpu", "dev"})))
    assert {"pillow", "transformers", "torch"} <= here  # the last two come with vLLM
    assert here - set(PINS["cpu"]) == set()
    assert importlib.metadata.version("pillow") == PINS["cpu"]["pillow"] == PINS["gpu"]["pillow"]
