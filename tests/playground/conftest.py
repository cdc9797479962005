"""Chromium, Debian's, driven by playwright; axe-core from npm."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.debian import require

AXE = "axe-core@4.10.3"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=require("chromium"), args=FLAGS)
        yield running
        await running.close()


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
