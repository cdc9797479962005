"""The README's snippets, run as they stand but for the port; what they print is what their comments say."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.servers import Gateway
from tests.shapes import encoded
from tests.snippets import python

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a server that has the two pictures of the README."""
    for kind in ("star", "circle"):
        (tmp_path / f"{kind}.png").write_bytes(encoded(kind, "blue"))
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_python_snippets_print_what_their_comments_say(gateway: Gateway, pictures: str) -> None:
    snippets = python(README)
    assert len(snippets) == 4
    program = "\n".join(snippets).replace("http://127.0.0.1:8000", gateway.url)
    program = program.replace("127.0.0.1:8765", pictures)
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", program, re.MULTILINE)
    assert promised == ["A red circle and a blue square.", "Red.", "The first."]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    # The streamed answer prints no newline of its own.
    assert done.stdout == "A red circle and a blue square.\nRed.The first.\n"


def test_ask_streams_the_answer_to_the_terminal(gateway: Gateway) -> None:
    done = _ask("--base-url", gateway.api)
    assert (done.returncode, done.stdout) == (0, "A red circle and a blue square.\n")


def test_ask_says_where_no_gateway_answers() -> None:
    done = _ask("--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 3
    assert done.stderr == "error: no gateway answers at http://127.0.0.1:9/v1; `make serve` starts one\n"


def _ask(*options: str) -> subprocess.CompletedProcess[str]:
    command = re.search(r"llava-gateway ask (\S+) \"(.*)\"", README)
    assert command is not None
    arguments = [sys.executable, "-m", "gateway", "ask", *command.groups(), *options]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
