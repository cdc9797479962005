"""haproxy in front of replicas, with the configuration in deploy/."""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.debian import require
from tests.servers import free_port

CONFIGURATION = Path(__file__).parents[1] / "deploy/haproxy.cfg"


@contextmanager
def haproxy(folder: Path, replicas: Sequence[int], check_every: str = "1s") -> Iterator[str]:
    """Run haproxy in front of two gateways on the ports `replicas`; yield its address, once it listens."""
    port = free_port()
    one, two = replicas
    text = CONFIGURATION.read_text()
    for given, wanted in (
        ("bind :8080", f"bind 127.0.0.1:{port}"),
        ("127.0.0.1:8001", f"127.0.0.1:{one}"),
        ("127.0.0.1:8002", f"127.0.0.1:{two}"),
        ("inter 1s", f"inter {check_every}"),
    ):
        assert given in text
        text = text.replace(given, wanted)
    path = folder / "haproxy.cfg"
    path.write_text(text)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([require("haproxy"), "-db", "-f", path], stdout=log, stderr=log)
    try:
        _wait_until_it_listens(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "haproxy ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "haproxy does not listen"
            time.sleep(0.05)
        else:
            return
