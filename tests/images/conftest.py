"""Loaders and pictures for the tests of `gateway.images`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.access.memory_budgets import MemoryBudgets
from gateway.engine.interface import Picture
from gateway.images.loader import PictureLoader
from gateway.images.source import parse
from gateway.settings import load as load_settings
from gateway.telemetry.metrics import Metrics

ME = Caller("me", "me", CallerClass())
PARAM = "messages[0].content[1].image_url.url"

Load = Callable[..., Awaitable[Picture]]


class Loading:
    """A loader with its settings and metrics; `load` parses and loads a URL as the pipeline does."""

    def __init__(self, **settings: Any) -> None:
        self.settings = load_settings(**settings)
        self.metrics = Metrics()
        self.memory = MemoryBudgets(self.settings, self.metrics)
        self.loader = PictureLoader(self.settings, self.metrics, self.memory)

    async def load(self, url: str, **wanted: Any) -> Picture:
        source = parse(url, param=PARAM, max_bytes=self.settings.image_max_bytes)
        return await self.loader.load(
            source, **{"param": PARAM, "side": 56, "fit": "squash", "scope": "me", "caller": ME, **wanted}
        )

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def loading() -> AsyncIterator[Callable[..., Loading]]:
    """Make loaders that are closed after the test."""
    made: list[Loading] = []

    def make(**settings: Any) -> Loading:
        made.append(Loading(**settings))
        return made[-1]

    yield make
    await asyncio.gather(*(one.loader.close() for one in made))
