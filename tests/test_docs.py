"""The docs hold what the code has: packages, links, commands, settings and errors by name."""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from typer.main import get_command

from gateway.cli import app
from gateway.cli.common import ExitCode
from gateway.errors import GatewayError, _all
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from tests.each import each

ROOT = Path(__file__).parents[1]
PAGES = sorted(chain(ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "deploy").glob("*.md")))
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()


def packages() -> set[str]:
    """Return the names of the modules and packages of `gateway/`."""
    found = (ROOT / "gateway").iterdir()
    names = {path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").exists()}
    return names - {"__init__"}


def test_the_architecture_names_every_package_and_no_other() -> None:
    table = ARCHITECTURE.partition("<!-- packages -->")[2].partition("<!-- /packages -->")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == packages()


def test_the_drawn_life_goes_through_packages() -> None:
    drawing = ARCHITECTURE.partition("```text")[2].partition("```")[0]
    drawn = re.findall(r"^ (\w+)  |──▶ (\w+)  ", drawing, re.MULTILINE)
    names = [name for pair in drawn for name in pair if name]
    assert names == [
        "api",
        "access",
        "schema",
        "answering",
        "generation",
        "prompt",
        "images",
        "engine",
        "generation",
        "api",
    ]
    assert set(names) <= packages()


@each("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_the_navigation_names_each_page_once_under_its_kind() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    kinds = re.findall(r"^  - ([^:]+):$", nav, re.MULTILINE)
    assert kinds == ["Start", "How to", "Reference", "How it works", "Reports", "Project"]
    named = re.findall(r"^ +- [^:]+: (\S+\.md)$", nav, re.MULTILINE)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    outside = ["index.md", "contributing.md", "security.md", "changelog.md", "deploy.md"]
    assert sorted(named) == sorted(pages + outside)


def test_the_changelog_is_one_screen() -> None:
    assert len((ROOT / "CHANGELOG.md").read_text().splitlines()) <= 40


def test_the_responses_page_names_the_results_of_the_conformance_report() -> None:
    report = (ROOT / "docs/reports/conformance.md").read_text()
    passed = re.findall(r"^\| llm-comply open-responses \| (\d+) \| (\d+) \|$", report, re.MULTILINE)
    page = (ROOT / "docs/responses.md").read_text()
    assert re.findall(r"`llm-comply`\) passes (\d+) of its (\d+) tests", page) == passed


def test_settings_are_named_right() -> None:
    fields = {f"GATEWAY_{name.upper()}" for name in Settings.model_fields}
    others = {"GATEWAY_"}
    for page in set(PAGES) - {ROOT / "CHANGELOG.md"}:  # which names those that are gone
        named = set(re.findall(r"\bGATEWAY_[A-Z_]*", page.read_text()))
        assert named - fields - others == set(), page.name


def test_commands_are_named_right() -> None:
    command = get_command(app)
    commands = set(command.commands)  # type: ignore[attr-defined]
    for page in PAGES:
        named = set(re.findall(r"llava-gateway ([a-z]+)", "\n".join(code(page))))
        assert named - commands == set(), page.name


def test_commands_run_where_the_reader_stands() -> None:
    for page in set(PAGES) - {ROOT / "docs/clients.md"}:  # where each client has an environment of its own
        lines = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
        bare = re.findall(
            r"^(?:\w+=\S+ )*(?:llava-gateway|python|pip|pytest)\b.*", "".join(lines), re.MULTILINE
        )
        assert bare == [], page.name


def test_errors_in_the_troubleshooting_page_are_real() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    real = {(str(kind.status), kind.code) for kind in _all(GatewayError)}
    named = re.findall(r"^\| (\d{3}) `(\w+)` \|", page, re.MULTILINE)
    assert len(named) == 7
    assert set(named) <= real


def test_messages_in_the_troubleshooting_page_are_in_the_code() -> None:
    start = (ROOT / "docs/troubleshooting.md").read_text().partition("## It is not ready")[0]
    sources = chain((ROOT / "gateway").rglob("*.py"), (ROOT / "engine_config").rglob("*.py"))
    source = "\n".join(path.read_text() for path in sources)
    named = re.findall(r"^\| `([^`]+)` \|", start, re.MULTILINE)
    assert len(named) == 7
    for message in named:
        assert message in source


def test_metrics_in_the_operations_page_exist() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"`(gateway_\w+)`", page))
    assert len(named) >= 8
    families = {family.name for family in Metrics().registry.collect()}
    assert {name.removesuffix("_total") for name in named} <= families


def test_make_targets_are_named_right() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert {name for pair in named for name in pair if name} - targets == set(), page.name


def test_the_readme_fits_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


def code(page: Path) -> list[str]:
    """Return the page's pieces of code, blocks and inline."""
    text = page.read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    return blocks + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def test_the_exit_codes_are_those_of_the_commands() -> None:
    rows = [f"| {code:d} | {code.meaning} |" for code in ExitCode]
    assert (
        "\n".join(["| code | meaning |", "| --- | --- |", *rows]) in (ROOT / "docs/operations.md").read_text()
    )


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_an_example_says_what_it_takes(program: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(program), "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {program.name} ")
