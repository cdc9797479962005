"""A restart lasts until the gateway is ready again, and the memory of each process counts."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from tests.servers import Gateway
from tools.bench import processes, starts

SLEEPER = "print(flush=True); input()"
PROGRAM = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPER!r}])"


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[Gateway, list[int]]]:
    """Run a server that answers with each of `statuses` once; the list has those it has not used."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/health/ready"
            self.send_response(left.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Gateway(f"http://127.0.0.1:{server.server_port}"), left
        server.shutdown()


def test_an_engine_is_back_when_the_gateway_was_unready_and_is_ready_again() -> None:
    with answering(200, 200, 503, 503, 200, 503) as (gateway, left):
        starts.wait_for(gateway, ready=False)
        assert left == [503, 200, 503]
        starts.wait_for(gateway, ready=True)
        assert left == [503]


def test_a_gateway_that_does_not_come_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "LONGEST", 0.1)
    with pytest.raises(TimeoutError, match="did not change"):
        starts.wait_for(Gateway("http://127.0.0.1:1"), ready=True)


def test_the_memory_of_processes_of_one_name_is_added_up() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()  # The child has imported what it needs.
        (child,) = psutil.Process(parent.pid).children()
        parents, childs = (psutil.Process(pid).memory_info().rss for pid in (parent.pid, child.pid))
        ((name, (pss, rss)),) = starts.memory(parent.pid).items()
        parent.communicate(b"\n")
    assert name == "server"
    assert rss == pytest.approx((parents + childs) / processes.MIB, rel=0.01)
    assert 0 < pss < rss
