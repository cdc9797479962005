"""Logs as they are written in production, for the time of a block."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog

from gateway.telemetry import logs


@contextmanager
def written_to(page: TextIO, form: str, level: str = "debug") -> Iterator[None]:
    """Have structlog write to `page` as `logs.configure` sets it up; afterwards it is as it was before."""
    before, stderr, handlers = structlog.get_config(), sys.stderr, list(logging.getLogger().handlers)
    sys.stderr = page
    try:
        logs.configure(form, level)
        # Loggers that are cached on first use would keep this page for the tests to come.
        structlog.configure(cache_logger_on_first_use=False)
        yield
    finally:
        sys.stderr = stderr
        structlog.configure(**before)
        logging.getLogger().handlers[:] = handlers
