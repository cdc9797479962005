"""Debian's Chromium, driven by playwright."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.debian import require

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Yield a Chromium without a window, installed where it is missing."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=require("chromium"), args=list(FLAGS))
        try:
            yield running
        finally:
            await running.close()
