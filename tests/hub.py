"""A small Hugging Face hub on this machine: one repository, its files by ranges, and faults on demand.

It answers what the hub answers (https://huggingface.co/docs/hub/api, and the headers that huggingface_hub
reads): large files are redirected to another host, as the hub does to its content network.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

REPO = "tests/llava-tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1_000_000  # bytes from which on a file is kept as on the hub: by its SHA-256, in another place


@dataclass
class Hub:
    """What the hub has, what it does wrong, and what was asked of it."""

    files: dict[str, bytes]
    token: str | None = None  # without it nothing is given
    gated: bool = False
    break_after: list[int] = field(
        default_factory=list
    )  # bytes after which a large answer breaks off, once each
    stall_after: int | None = None  # bytes after which a large answer stops and stays open
    corrupt: int = 0  # large answers that come with a byte changed
    asked: list[str] = field(default_factory=list)  # "GET /path bytes=0-"
    tokens_seen_by_the_network: set[str | None] = field(default_factory=set)
    port: int = 0
    hang_up: Event = field(default_factory=Event)  # ends the answers that stopped

    @property
    def environment(self) -> dict[str, str]:
        return {"HF_ENDPOINT": f"http://127.0.0.1:{self.port}"}

    def ranges(self) -> list[str]:
        """Return the ranges that were asked of large files, in order."""
        return [line.rpartition(" ")[2] for line in self.asked if line.startswith("GET /network/")]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return a model's files as a repository has them, with what must not be fetched beside them."""
    files = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".safetensors")
    }
    unwanted = {"pytorch_model.bin": b"\0" * 2_000_000, "README.md": b"# A model", "onnx/config.json": b"{}"}
    return files | unwanted


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.port = server.server_port
        Thread(target=server.serve_forever, args=(0.02,)).start()  # looks so often for its end
        try:
            yield hub
        finally:
            hub.hang_up.set()
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path} {self.headers.get('range', '-')}")
        if path.startswith("/network/"):
            self._network(path.removeprefix("/network/"))
        elif self.hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif self.hub.token and self.headers.get("authorization") != f"Bearer {self.hub.token}":
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif path.startswith(f"/api/models/{REPO}"):
            self._api(path.removeprefix(f"/api/models/{REPO}").split("/"))
        elif path.startswith(f"/{REPO}/resolve/"):
            revision, _, name = path.removeprefix(f"/{REPO}/resolve/").partition("/")
            self._resolve(revision, name)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _api(self, parts: list[str]) -> None:
        revision = parts[2] if len(parts) > 2 else "main"
        if revision not in ("main", COMMIT):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif len(parts) > 1 and parts[1] == "tree":
            self._json([_entry(name, data) for name, data in self.hub.files.items()])
        else:
            siblings = [{"rfilename": name} for name in self.hub.files]
            self._json({"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings, "private": False})

    def _resolve(self, revision: str, name: str) -> None:
        data = self.hub.files.get(name)
        if data is None or revision not in ("main", COMMIT):
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        headers = {"X-Repo-Commit": COMMIT}
        if len(data) < LARGE:
            self._send(200, data, headers | {"ETag": f'"{_blob_id(data)}"'})
            return
        digest = hashlib.sha256(data).hexdigest()
        headers |= {
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(data)),
            # By another name of this machine: a token must not go along.
            "Location": f"http://localhost:{self.hub.port}/network/{name}?signature=1",
        }
        self._send(302, b"", headers)

    def _network(self, name: str) -> None:
        data = self.hub.files[name]
        self.hub.tokens_seen_by_the_network.add(self.headers.get("authorization"))
        begin = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if begin >= len(data):
            self._send(416, b"", {})
            return
        rest = data[begin:]
        if self.hub.corrupt:
            self.hub.corrupt -= 1
            rest = bytes([rest[0] ^ 1]) + rest[1:]
        status = 206 if "range" in self.headers else 200
        headers = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}", "Accept-Ranges": "bytes"}
        if self.hub.break_after:
            self._send(status, rest, headers, only=self.hub.break_after.pop(0))
        elif self.hub.stall_after is not None:
            self._send(status, rest, headers, only=self.hub.stall_after)
            self.hub.hang_up.wait()
        else:
            self._send(status, rest, headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], only: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:only])
        if only is not None:
            self.close_connection = True


def _entry(name: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _blob_id(data)}
    if len(data) >= LARGE:
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
    return entry


def _blob_id(data: bytes) -> str:
    """Return git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
