"""Environments for other people's programs, asked for by two pytest workers at once."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import environments

SLOW_NPM = """#!/bin/sh
echo started >> "$LOG"
sleep 0.3
"""


def test_two_workers_make_one_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text(SLOW_NPM)
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))

    with ThreadPoolExecutor(2) as workers:
        folders = list(workers.map(lambda _: environments.node(tmp_path / "client", "openai@1"), range(2)))

    assert folders == [tmp_path / "client"] * 2
    assert (tmp_path / "log").read_text().splitlines() == ["started"]

    environments.node(tmp_path / "client", "openai@2")
    assert len((tmp_path / "log").read_text().splitlines()) == 2
