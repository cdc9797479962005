"""The `llm` command, with the gateway in its extra-openai-models.yaml."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from shared import ANSWER, AWAY, KEY, MODEL, QUESTION, STAR, URL, expect, image_bytes, leaving, run

home = Path(tempfile.mkdtemp())
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: seer\n  model_name: {MODEL}\n  api_base: {URL}\n  api_key_name: seer\n"
    "  vision: true\n  supports_schema: true\n  supports_tools: true\n"
    f"- model_id: other\n  model_name: no-such\n  api_base: {URL}\n  api_key_name: seer\n"
    f"- model_id: away\n  model_name: {MODEL}\n  api_base: {AWAY}\n  api_key_name: seer\n"
)
(home / "keys.json").write_text(f'{{"seer": "{KEY}"}}')
(home / "star.png").write_bytes(image_bytes(STAR))
ENVIRONMENT = {**os.environ, "LLM_USER_PATH": str(home)}
COMMAND = str(Path(sys.executable).with_name("llm"))


def llm(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [COMMAND, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    return (done.stderr if code else done.stdout).strip()


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
    def fails(status: int, model: str, *options: str) -> None:
        told = llm("-m", model, *options, "x", code=1)
        assert f"Error code: {status}" in told, told

    fails(404, "other")
    fails(503, "away")
    fails(401, "seer", "--key", "sk-wrong")
    fails(400, "seer", "-o", "max_tokens", "0")
    # A 429 is not to be seen: the SDK inside waits as long as the answer says, and asks again.


def abort() -> None:
    with leaving():
        # Without its end token the answer goes on for 2000 tokens; a person ends it.
        long = ("-o", "logit_bias", '{"2": -100}', "-o", "max_tokens", "2000")
        command = [COMMAND, *ASK, *long]
        asking = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        asking.stdout.read(1)
        asking.terminate()
        asking.wait(10)


run(dict(whole=whole, streamed=streamed, turns=turns, structured=structured, errors=errors, abort=abort))
