"""One form for all that is logged, whoever logs it; and what the start says."""

import io
import logging
import os
import subprocess
import sys

import orjson

from engine_config import profile as profiles
from gateway.engine.environment import LOGGING
from gateway.serving import start
from gateway.serving.server import configuration
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from tests.written_logs import written_to

DEMO = profiles.load("demo")
# As vLLM sets up its logger in each of its processes.
ENGINE = f"""
import json, logging, logging.config
logging.config.dictConfig(json.load(open({str(LOGGING)!r})))
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("vllm.engine").exception("a step failed: %s", 5)
logging.getLogger("vllm.engine").info("of no interest")
"""


def test_the_engines_own_lines_are_json_where_the_gateways_are() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENGINE],
        env=os.environ | {"GATEWAY_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = map(orjson.loads, done.stderr.splitlines())
    assert (line["event"], line["level"], line["logger"]) == ("a step failed: 5", "error", "vllm.engine")
    assert "ZeroDivisionError" in line["exception"]


def test_what_libraries_log_is_written_in_the_same_form() -> None:
    page = io.StringIO()
    with written_to(page, "json"):
        logging.getLogger("uvicorn.error").warning("too %s", "much")
    (line,) = map(orjson.loads, page.getvalue().splitlines())
    assert (line["event"], line["level"], line["logger"]) == ("too much", "warning", "uvicorn.error")


def test_the_server_does_not_configure_logging() -> None:
    async def app(*_: object) -> None:
        """Serve nothing."""

    configuration(app, Settings(), 0, Metrics())
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error")]
    assert [logger for logger in loggers if logger.handlers or not logger.propagate] == []


def test_the_hint_names_the_page_first_and_an_address_that_can_be_opened() -> None:
    shown = start.hint(Settings(host="0.0.0.0", port=8001), DEMO, page=True, keyed=False)
    assert shown.splitlines()[:2] == ["page  http://127.0.0.1:8001", "API   http://127.0.0.1:8001/v1"]
    assert "0.0.0.0" not in shown
    assert "authorization" not in shown


def test_the_hint_sends_a_key_where_one_is_asked_for() -> None:
    shown = start.hint(Settings(host="::1", port=8001), DEMO, page=False, keyed=True)
    assert shown.splitlines()[:2] == [
        "API   http://[::1]:8001/v1",
        "An API key is required: set OPENAI_API_KEY to one of yours, then try:",
    ]
    assert '-H "authorization: Bearer $OPENAI_API_KEY"' in shown
