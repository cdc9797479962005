"""A PostgreSQL server of a test's own, on loopback, with a password."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.debian import require
from tests.servers import free_port

PASSWORD = "a password: with @ and /"  # the test server's


@dataclass
class Server:
    """A server that can be killed and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://llava:a%20password%3A%20with%20%40%20and%20%2F@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
        }
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = _as_owner(str(_binary("postgres")), "-D", str(self.folder / "data"), *given)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()[-2000:]
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End it without a checkpoint: its clients' connections break."""
        pid = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        subprocess.run(_as_owner(str(_binary("pg_ctl")), "kill", "QUIT", str(pid)), check=True)
        assert self.process is not None
        self.process.wait(30)

    def clear(self) -> None:
        """Remove what gateways have stored."""
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute("DROP SCHEMA IF EXISTS llava_gateway CASCADE")


@contextmanager
def postgres() -> Iterator[Server]:
    """Yield a server with an empty database."""
    # Not in pytest's folder: when root runs the tests, the server's user may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        initdb = _binary("initdb")
        if os.geteuid() == 0:
            for path in (folder, password):
                shutil.chown(path, "postgres")
        made = _as_owner(
            str(initdb), "-D", str(folder / "data"), "-U", "llava", "-A", "scram-sha-256",
            "--pwfile", str(password), "-E", "UTF8", "--no-sync",
        )  # fmt: skip
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=folder)
        server = Server(folder, free_port())
        server.start()
        yield server
        if server.process is not None and server.process.poll() is None:
            server.kill()
    finally:
        shutil.rmtree(folder)


def _binary(name: str) -> Path:
    """Return a program of the server; Debian has them outside PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        require("pg_lsclusters", "postgresql")
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found[-1]


def _as_owner(*command: str) -> list[str]:
    """Return the command as another user than root, whom the server refuses."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)
