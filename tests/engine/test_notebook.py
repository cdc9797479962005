"""docs/colab.ipynb runs from its first cell to its last: clone, set-up, start, requests, stop."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import nbformat
import pytest
from nbclient import NotebookClient

from engine_config import install
from tests.debian import require
from tests.pages import files_at
from tests.servers import free_port
from tests.shapes import encoded

ROOT = Path(__file__).parents[2]
FORK = "https://github.com/someone/a-fork"
NOTEBOOK = ROOT / "docs/colab.ipynb"

GATEWAY = f"""#!/bin/sh
exec "{sys.executable}" -m gateway "$@"
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository to clone from, with what the gateway needs of this one."""
    folder = tmp_path / "repository"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("engine_config", "gateway"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    git = [require("git"), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "All"]):
        subprocess.run([*git, *arguments], cwd=folder, check=True, timeout=60)
    return folder


class Runner:
    """Runs the notebook's cells in `folder`, with other parameters than its own."""

    def __init__(self, folder: Path, **parameters: Any) -> None:
        self.notebook = nbformat.read(NOTEBOOK, as_version=4)
        place = next(
            i for i, cell in enumerate(self.notebook.cells) if "parameters" in cell.metadata.get("tags", ())
        )
        assignments = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        self.notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(assignments))
        resources = {"metadata": {"path": str(folder)}}
        self.client = NotebookClient(self.notebook, timeout=240, kernel_name="python3", resources=resources)

    def output(self, beginning: str) -> str:
        """Return what the cell whose source begins so has printed."""
        cell = next(cell for cell in self.notebook.cells if cell.source.startswith(beginning))
        return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.engine
@pytest.mark.proof
async def test_the_notebook_runs_from_its_first_cell_to_its_last(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_FETCH_ALLOW", "127.0.0.1")
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for kind, colour in (("star", "red"), ("circle", "blue")):
        (pictures / f"{kind}.png").write_bytes(encoded(kind, colour))
    with files_at(pictures) as address:
        runner = Runner(
            tmp_path,
            REPOSITORY=f"file://{repository}",
            PROFILE="demo",
            PORT=free_port(),
            QUESTIONS={
                f"{address}/star.png": "What is in the image?",
                f"{address}/circle.png": "What colour is the circle?",
            },
        )
        async with runner.client.async_setup_kernel():
            for place, cell in enumerate(runner.notebook.cells):
                await runner.client.async_execute_cell(cell, place)
                if "git" in cell.source and "clone" in cell.source:
                    _finish_set_up(tmp_path / "llava-gateway")
    assert "ready" in runner.output("import time")
    assert runner.output("from IPython.display") == (
        "What is in the image?\nA red star.\nWhat colour is the circle?\nBlue.\n"
    )
    assert (
        sum(
            "image/png" in output.get("data", {})
            for cell in runner.notebook.cells
            for output in cell.get("outputs", ())
        )
        == 2
    )
    assert runner.output("gateway.terminate") == "left with 0\n"


def _finish_set_up(checkout: Path) -> None:
    """Make a checkout look as set-up leaves it, with this environment's packages; set-up takes minutes."""
    program = checkout / ".venv/bin/llava-gateway"
    program.parent.mkdir(parents=True)
    program.write_text(GATEWAY)
    program.chmod(0o755)
    stamp = install.wanted_stamp(checkout, "cpu", dev=False)
    install.write_stamp(checkout / ".venv/set-up.json", stamp)


@pytest.mark.parametrize(
    ("sessions", "asked", "cloned"),
    [
        (
            [{"path": f"fileId={quote(FORK, safe='')}%2Fblob%2Fmain%2Fdocs%2Fcolab.ipynb"}],
            0,
            FORK,
        ),
        ([{"path": "fileId=1a2B3c"}], 1, "https://typed.example/gateway"),  # opened from Google Drive
    ],
)
def test_the_notebook_clones_the_repository_it_was_opened_from_or_asks(
    sessions: list[dict[str, str]], asked: int, cloned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (parameters,) = (cell.source for cell in cells if "parameters" in cell.metadata.get("tags", ()))
    (get,) = (cell.source for cell in cells if "def opened_from" in cell.source)
    git = tmp_path / "bin/git"
    git.parent.mkdir()
    git.write_text(f'#!/bin/sh\necho "$4" > {tmp_path}/cloned\n')
    git.chmod(0o755)
    (tmp_path / "api").mkdir()
    (tmp_path / "api/sessions").write_text(json.dumps(sessions))
    prompts: list[str] = []

    def typed(prompt: str) -> str:
        prompts.append(prompt)
        return cloned

    with files_at(tmp_path) as colab:
        address = urlsplit(colab)
        monkeypatch.setenv("COLAB_JUPYTER_IP", str(address.hostname))
        monkeypatch.setenv("KMP_TARGET_PORT", str(address.port))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
        monkeypatch.setattr("builtins.input", typed)
        monkeypatch.chdir(tmp_path)
        exec(compile(f"{parameters}\n{get}", "notebook", "exec"), {})
    assert (tmp_path / "cloned").read_text() == f"{cloned}\n"
    assert len(prompts) == asked


def test_the_notebook_is_committed_without_output_and_asks_for_a_gpu() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert notebook.metadata["accelerator"] == "GPU"
