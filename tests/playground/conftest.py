"""One Chromium for all tests of the playground; axe-core from npm."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.chromium import chromium
from tests.debian import require

AXE = "axe-core@4.10.3"


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """Return axe-core's program."""
    cache = pytestconfig.cache
    assert cache is not None
    folder = cache.mkdir("axe-core")
    path = Path(folder) / "node_modules" / "axe-core" / "axe.min.js"
    if not path.exists():
        flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder)]
        subprocess.run([require("npm"), "install", *flags, AXE], check=True, timeout=120)
    return path.read_text()
