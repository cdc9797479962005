"""`python -m tools.conformance` runs other people's checks, and writes docs/reports/conformance.md."""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.servers import served_gateway
from tools.conformance import report, suites, vision

MODEL = "llava-demo"
PAGE = Path(__file__).parents[2] / "docs" / "reports" / "conformance.md"


def main() -> None:
    """Exit with 1 where a check fails that has no reason."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served_gateway(folder, profile="demo", fetch_allow="127.0.0.1", max_images="3") as gateway:
            outcomes = [
                *suites.llm_comply(gateway.api, MODEL),
                *suites.compatcanary(gateway.api, MODEL, folder),
                *asyncio.run(vision.run(gateway.api, MODEL, 3)),
            ]
    PAGE.write_text(report.page(outcomes), encoding="utf-8")
    print(f"written to {PAGE}")
    unexplained = report.unexplained(outcomes)
    for outcome in unexplained:
        print(f"{outcome.suite}: {outcome.name}: {outcome.problem}", file=sys.stderr)
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
