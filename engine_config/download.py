"""One large file of a Hugging Face repository: resumed where it broke off, and verified.

huggingface_hub 2 deletes what it has of a file when a download breaks and starts again. Files have 5 GB, so
this module resumes. It leaves the finished file where huggingface_hub's cache expects it, `blobs/<sha256>`.
"""

import fcntl
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx2
from huggingface_hub import get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

CHUNK = 2**20  # bytes
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row that bring nothing, before a download fails


class Corrupt(Exception):
    """The downloaded file is not what the hub says it is."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at one commit."""

    repo: str
    commit: str
    name: str
    size: int  # bytes
    sha256: str

    def blob(self, blobs: Path) -> Path:
        """Return where huggingface_hub's cache has the file's content."""
        return blobs / self.sha256

    def partial(self, blobs: Path) -> Path:
        """Return where the content is collected until it is complete."""
        return blobs / f"{self.sha256}.incomplete"

    def bytes_here(self, blobs: Path) -> int:
        """Return how many of the file's bytes are on this disk."""
        for path in (self.blob(blobs), self.partial(blobs)):
            if path.exists():
                return min(path.stat().st_size, self.size)
        return 0


def download(file: RemoteFile, blobs: Path, stop: threading.Event) -> None:
    """Fetch what is missing of `file`, verify it and move it to its place; returns early once `stop` is set.

    Raises Corrupt when the hash was wrong twice, and what the last of ATTEMPTS attempts raised.
    """
    for last in (False, True):
        with file.partial(blobs).open("ab") as out:
            fcntl.flock(out, fcntl.LOCK_EX)  # Another process may be fetching the same.
            if file.blob(blobs).exists():
                return
            _complete(file, out, stop)
            if stop.is_set():
                return
            out.flush()
            if sha256(file.partial(blobs)) == file.sha256:
                file.partial(blobs).rename(file.blob(blobs))
                return
            out.truncate(0)
        if last:
            raise Corrupt(f"{file.name} arrived with a wrong SHA-256 twice")


def sha256(path: Path, read: Callable[[int], None] = lambda _: None) -> str:
    """Return the hash of a file; `read` is called with the number of bytes read so far."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(16 * CHUNK):
            digest.update(chunk)
            read(file.tell())
    return digest.hexdigest()


def _complete(file: RemoteFile, out: IO[bytes], stop: threading.Event) -> None:
    """Append to `out` until it has the file's size."""
    if out.tell() > file.size:
        out.truncate(0)
        out.seek(0)
    failures = 0
    while out.tell() < file.size and not stop.is_set():
        before = out.tell()
        try:
            _append(file, out, stop)
        except (httpx2.TransportError, HfHubHTTPError) as error:
            failures = 1 if out.tell() > before else failures + 1
            if failures == ATTEMPTS or not _passes(error):
                raise
            stop.wait(2.0**failures / 2)


def _append(file: RemoteFile, out: IO[bytes], stop: threading.Event) -> None:
    """Ask once for the rest of the file and write what comes."""
    url = hf_hub_url(file.repo, file.name, revision=file.commit)
    headers = {
        **build_hf_headers(),
        "range": f"bytes={out.tell()}-",
        "accept-encoding": "identity",  # A range of a compressed body would be no range of the file.
    }
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
        hf_raise_for_status(response)
        if response.status_code != httpx2.codes.PARTIAL_CONTENT:
            out.truncate(0)
            out.seek(0)
        for chunk in response.iter_bytes(CHUNK):
            out.write(chunk)
            if stop.is_set():
                return


def _passes(error: Exception) -> bool:
    """Say whether asking again can help."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 425, 429) or error.response.status_code >= 500  # noqa: PLR2004  # HTTP
    return True
