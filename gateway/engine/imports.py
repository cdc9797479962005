"""Keeps vLLM from importing what LLaVA does not need: a start is mostly imports."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

AUDIO = "scipy.signal"  # vLLM resamples audio with it if it is installed


@contextmanager
def without_audio() -> Iterator[None]:
    """Make AUDIO look like it is not installed while the block imports vLLM."""
    if AUDIO in sys.modules:
        yield
        return
    sys.modules[AUDIO] = None  # type: ignore[assignment]  # so that its import raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[AUDIO]
