"""The programs of docs/batches.md run on the real engine."""

import re
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from tests.engine.batch import completed, wait
from tests.servers import Gateway
from tests.snippets import python

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]


def test_the_snippets_of_the_docs_run(gateway: Gateway, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "batches.md").read_text()
    [line] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (tmp_path / "requests.jsonl").write_text(line)
    program = "\n".join(python(text))
    program = program.replace("http://127.0.0.1:8000", gateway.url)
    program = program.replace("requests.jsonl", str(tmp_path / "requests.jsonl"))
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", f"{program}\nprint(batch.id)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    answer, batch_id = done.stdout.splitlines()
    assert answer == "A red circle and a blue square."
    with openai.OpenAI(base_url=gateway.api, api_key="none") as client:
        batch = wait(client, client.batches.retrieve(batch_id), lambda now: now.status == "completed")
        assert completed(batch) == 1
