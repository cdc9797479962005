"""Other people's checks of OpenAI's API, run against a gateway."""

import json
import os
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from llm_comply.config import ComplianceConfig
from llm_comply.runner import TestRunner
from llm_comply.schema import SpecLoader
from llm_comply.tests import get_tests

from tests.debian import require

COMPATCANARY = "compatcanary@0.2.2"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check came to; `problem` is empty where it passed."""

    suite: str
    name: str
    problem: str = ""


def llm_comply(api: str, model: str) -> list[Outcome]:
    """Run llm-comply's suites of chat and of Responses."""
    found = []
    for suite, spec in (("openai-chat", "openai_chat.json"), ("open-responses", "openresponses.json")):
        config = ComplianceConfig(base_url=api, api_key="none", model=model, timeout=120)
        loader = SpecLoader(str(files("llm_comply").joinpath("specs", spec)))
        for result in TestRunner(config, get_tests(suite), loader).run_all().results:
            problem = "; ".join(result.errors)[:300] if result.status.value != "passed" else ""
            found.append(Outcome(f"llm-comply {suite}", result.id, problem))
    return found


def compatcanary(api: str, model: str, folder: Path) -> list[Outcome]:
    """Run compatcanary, installed below `folder`."""
    program = folder / "node_modules" / "compatcanary" / "src" / "cli.js"
    if not program.exists():
        flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder)]
        subprocess.run([require("npm"), "install", *flags, COMPATCANARY], check=True, timeout=120)
    command = [require("node", "nodejs"), str(program), "scan", "--base-url", api, "--model", model]
    done = subprocess.run(
        [*command, "--format", "json", "--timeout", "120"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "OPENAI_API_KEY": "none"},
    )
    results = json.loads(done.stdout)["results"]
    return [
        Outcome("compatcanary", each["id"], "" if each["status"] == "pass" else each["summary"])
        for each in results
    ]
