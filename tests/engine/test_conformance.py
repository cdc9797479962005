"""Third-party checks of OpenAI's API find exactly what docs/reports/conformance.md says."""

import asyncio
from pathlib import Path

import pytest

from tests.servers import Gateway
from tools.conformance import report, suites, vision
from tools.conformance.__main__ import MODEL, PAGE

pytestmark = pytest.mark.engine


# llm-comply validates with a class that jsonschema will drop.
@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")
async def test_every_check_passes_or_fails_for_a_reason_in_the_docs(gateway: Gateway, tmp_path: Path) -> None:
    """Bring the page up to date with `make conformance`."""
    outcomes = [
        *await asyncio.to_thread(suites.llm_comply, gateway.api, MODEL),
        *await asyncio.to_thread(suites.compatcanary, gateway.api, MODEL, tmp_path),
        *await vision.run(gateway.api, MODEL, 7),
    ]
    assert report.unexplained(outcomes) == []
    page = PAGE.read_text(encoding="utf-8")
    told = [report.reason(outcome) for outcome in outcomes if outcome.problem]
    assert [why for why in told if why is None or why not in page] == []
