"""Structured logs on standard error: JSON, or coloured lines for a person at a terminal.

Lines that vLLM, uvicorn and other libraries log through Python's `logging` have the same form.
"""

import logging
import os
import sys
from typing import Any

import orjson
import structlog

VARIABLE = "GATEWAY_LOG_FORMAT"  # the setting, which the engine's processes inherit


def configure(form: str, level: str) -> None:
    """Configure structlog, and `logging` from level WARNING. `form` is `json`, `console` or `auto`."""
    json = is_json(form)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_rendered(json=json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in [found for found in root.handlers if isinstance(found.formatter, Formatter)]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(form))
    handler.setLevel(logging.WARNING)
    root.addHandler(handler)


def is_json(form: str) -> bool:
    """Return whether lines are JSON. With `auto`, they are unless standard error is a terminal."""
    return form == "json" or (form == "auto" and not sys.stderr.isatty())


class Formatter(structlog.stdlib.ProcessorFormatter):
    """Formats records of `logging` like the gateway's own log lines, with the name of their logger.

    vLLM's processes create it by gateway/engine/vllm_logging.json, without `form`: the environment has it.
    """

    def __init__(self, form: str | None = None) -> None:
        json = is_json(form or os.environ.get(VARIABLE, "auto"))
        super().__init__(
            processors=[self.remove_processors_meta, *_rendered(json=json)],
            foreign_pre_chain=[
                structlog.processors.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
        )


def _rendered(*, json: bool) -> list[Any]:
    if json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)]
    # Not rich's tracebacks: they show local variables, which may be prompts and images.
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


def _dumps(event: Any, default: Any) -> str:
    return orjson.dumps(event, default=default).decode()
