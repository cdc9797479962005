"""The snippets of docs/clients.md, run as a reader would run them."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.snippets import blocks
from tools.clients.catalogue import Client
from tools.clients.page import PAGE, ROOT

ANSWER = "A red circle and a blue square."
RUN = {"python": ["python", "-c"], "sh": ["sh", "-ec"], "js": ["node", "--input-type=module", "-e"]}
START_WITHIN = 120.0  # seconds, for a server that a snippet starts


def section(client: Client) -> str:
    """Return the page's text under the client's heading; "" if there is none."""
    _, *parts = re.split(r"^### (.*)\n", PAGE.read_text(), flags=re.MULTILINE)
    named = zip(parts[::2], parts[1::2], strict=True)
    return next((text for heading, text in named if client.name in heading.split(", ")), "")


def try_snippet(client: Client, folder: Path, environment: Mapping[str, str], real: Mapping[str, str]) -> str:
    """Run the client's snippet in its environment's folder. Return "yes", or why it failed.

    `real` maps the page's address and key to those of the test. YAML is written where the line before
    it says; a block before the last one is a server, which runs until the last one has run.
    """
    text = section(client)
    for shown, value in real.items():
        text = text.replace(shown, value)
    for place, content in re.findall(
        r"^In `(?:~/)?(.*)`:\n\n```yaml\n(.*?)```", text, re.MULTILINE | re.DOTALL
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(content)
    (folder / "docs").mkdir(exist_ok=True)
    shutil.copy(ROOT / "docs/shapes.png", folder / "docs")
    environment = {**environment, "PATH": f"{folder / 'bin'}:{environment['PATH']}"}
    *servers, command = [[*RUN[language], code] for language, code in blocks(text) if language in RUN]
    with _running(servers, folder, environment):
        deadline = time.monotonic() + (START_WITHIN if servers else 0)
        while True:
            done = subprocess.run(
                ["timeout", "120", *command],  # seconds; a snippet that hangs exits with 124
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 or time.monotonic() > deadline:
                break
    if done.stdout.strip() == ANSWER:
        return "yes"
    told = f"printed {done.stdout!r}; exit status {done.returncode}; stderr: {done.stderr[-200:]!r}"
    return f"its snippet in docs/clients.md {told}"


@contextmanager
def _running(commands: list[list[str]], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    null = subprocess.DEVNULL
    processes = [
        subprocess.Popen(one, cwd=folder, env=environment, stdout=null, stderr=null, start_new_session=True)
        for one in commands
    ]
    try:
        yield
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
