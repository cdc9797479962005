"""schemathesis makes requests from our description: no 500, no undocumented status, no schema violated."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway

pytestmark = pytest.mark.slow

# For each route; `make schemathesis` looks deeper, with 100.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "5")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


async def test_no_request_made_from_the_description_contradicts_it(tmp_path: Path) -> None:
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path / "state") as gateway:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"]
        done = await asyncio.to_thread(
            subprocess.run,
            [
                *command,
                *("--checks", ",".join(CHECKS)),
                *("--phases", os.environ.get("SCHEMATHESIS_PHASES", "examples,fuzzing")),
                *("--max-examples", EXAMPLES),
                *("--generation-database", "none"),
                "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=int(os.environ.get("SCHEMATHESIS_TIMEOUT", "280")),
            check=False,
        )
    print(done.stdout[-3000:])  # how many examples there were; shown with `-s`
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
