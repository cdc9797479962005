"""Program for test_fork_server: has a socket, a lock and a fork server, and forks a child per line of stdin.

It prints a line for each child. The arguments are the modules that the server preloads.
"""

import dataclasses
import fcntl
import os
import socket
import sys
import tempfile
import time
from multiprocessing import connection
from pathlib import Path
from typing import Any

import structlog

from engine_config import profile as profiles
from gateway.engine import fork_server, vllm_core

COLOUR = "GATEWAY_TESTS_COLOUR"


def child(to_parent: Any) -> None:
    """Report the process's environment and files, and stay."""
    vllm_core._end_with_parent()
    files = [str(Path(f"/proc/self/fd/{number}").readlink()) for number in range(3, 100) if _is_open(number)]
    to_parent.send((os.getpid(), os.getppid(), os.environ.get(COLOUR), os.environ.get("LATER"), files))
    time.sleep(600)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def main() -> None:
    """Print what each child reports, then this process's socket and lock and the server's directory."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    listener = socket.create_server(("127.0.0.1", 0))
    with tempfile.NamedTemporaryFile() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fork_server.PRELOADED[:] = sys.argv[1:]
        fork_server.start(dataclasses.replace(profiles.load("demo"), environment={COLOUR: "red"}))
        os.environ |= {COLOUR: "red", "LATER": "too"}
        context = fork_server.started()
        directory = fork_server._directory
        assert context is not None
        assert directory is not None
        own = [str(Path(f"/proc/self/fd/{listener.fileno()}").readlink()), lock.name]
        for _ in sys.stdin:
            from_child, to_parent = context.Pipe()
            context.Process(target=child, args=(to_parent,), daemon=True).start()
            assert connection.wait([from_child], 30)
            print((*from_child.recv(), own, str(directory.path)), flush=True)
        fork_server.stop()
        os._exit(0)


if __name__ == "__main__":
    main()
