"""`python -m tests.serve_scripted ARGUMENTS` is `llava-gateway ARGUMENTS`, but with the scripted engine."""

import os
from typing import Any

from gateway import cli
from gateway.serving import process
from tests.scripted_engine import ScriptedEngine


def _made(*_: Any) -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.started.set()
    return engine


if __name__ == "__main__":
    os.environ.setdefault("GATEWAY_FORK_SERVER", "false")  # There is no vLLM to import.
    vars(process)["VLLMEngine"] = _made
    cli.main()
