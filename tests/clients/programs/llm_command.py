"""The `llm` command, with the gateway in its extra-openai-models.yaml."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from shared import ANSWER, KEY, MODEL, QUESTION, STAR, URL, expect, image_bytes, run

home = Path(tempfile.mkdtemp())
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: seer\n  model_name: {MODEL}\n  api_base: {URL}\n  api_key_name: seer\n  vision: true\n  supports_schema: true\n"
    f"- model_id: other\n  model_name: no-such\n  api_base: {URL}\n  api_key_name: seer\n"
)
(home / "keys.json").write_text(f'{{"seer": "{KEY}"}}')
(home / "star.png").write_bytes(image_bytes(STAR))
COMMAND = str(Path(sys.executable).with_name("llm"))


def llm(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [COMMAND, *arguments], env={**os.environ, "LLM_USER_PATH": str(home)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done.stdout.strip()


ASK = ("-m", "seer", "-o", "temperature", "0", "-a", str(home / "star.png"), QUESTION)


def whole() -> None:
    expect(llm(*ASK, "--no-stream"), ANSWER)


def streamed() -> None:
    expect(llm(*ASK), ANSWER)


def turns() -> None:
    llm(*ASK)
    expect(llm("-c", "-o", "temperature", "0", "What colour is the star?"), "Red.")


def structured() -> None:
    assert "colour" in llm(*ASK, "--schema", "colour str", "-o", "max_tokens", "64")


def errors() -> None:
    llm("-m", "other", "x", code=1)


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, errors=errors))
