"""Structured logs on standard error: JSON, or coloured lines for a person at a terminal."""

import logging
import sys
from typing import Any

import orjson
import structlog


def configure(form: str, level: str) -> None:
    """Set up structlog. `form` is `json`, `console`, or `auto`: `console` on a terminal."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Any] = (
        # Not rich's tracebacks, which show local variables, and with them prompts and pictures.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)]
    )
    structlog.configure(
        processors=shared + final,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _dumps(event: Any, default: Any) -> str:
    return orjson.dumps(event, default=default).decode()
