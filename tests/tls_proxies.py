"""nginx and Caddy with TLS in front of a gateway, with the configurations in deploy/."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.debian import require
from tests.servers import free_port

DEPLOY = Path(__file__).parents[1] / "deploy"
LISTENS_WITHIN = 60.0  # seconds
NGINX = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    {paths}
{text}
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def nginx(folder: Path, gateway: int) -> Iterator[str]:
    """Run nginx in front of the gateway on port `gateway`; yield its address, once it listens."""
    port = free_port()
    certificates = "/etc/letsencrypt/live/gateway.example.com"
    text = _with(
        (DEPLOY / "nginx.conf").read_text(),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server_name gateway.example.com", "server_name localhost"),
        (f"{certificates}/fullchain.pem", str(folder / "certificate.pem")),
        (f"{certificates}/privkey.pem", str(folder / "key.pem")),
        ("server 127.0.0.1:8000", f"server 127.0.0.1:{gateway}"),
    )
    paths = " ".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
    (folder / "nginx.conf").write_text(NGINX.format(paths=paths, text=text))
    command = [require("nginx", "nginx-light"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    with _running(folder, command, port) as address:
        yield address


@contextmanager
def caddy(folder: Path, gateway: int) -> Iterator[str]:
    """Run Caddy in front of the gateway on port `gateway`; yield its address, once it listens."""
    port = free_port()
    text = _with(
        (DEPLOY / "Caddyfile").read_text(),
        (
            "\ngateway.example.com {",
            f"\nhttps://localhost:{port} {{\n\ttls {folder}/certificate.pem {folder}/key.pem",
        ),
        ("127.0.0.1:8000", f"127.0.0.1:{gateway}"),
    )
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{text}")
    command = [require("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with _running(folder, command, port) as address:
        yield address


PROXIES = {"nginx": nginx, "caddy": caddy}


def make_certificate(folder: Path) -> None:
    """Write certificate.pem, for localhost, and key.pem into `folder`."""
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command = [require("openssl"), *request.split(), "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)


def _with(text: str, *replaced: tuple[str, str]) -> str:
    for given, wanted in replaced:
        assert text.count(given) == 1, given
        text = text.replace(given, wanted)
    return text


@contextmanager
def _running(folder: Path, command: Sequence[str], port: int) -> Iterator[str]:
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + LISTENS_WITHIN
        while True:
            assert process.poll() is None, (folder / "proxy.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the proxy does not listen"
                time.sleep(0.05)
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        process.wait(60)
