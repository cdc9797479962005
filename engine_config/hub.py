"""A model's files from the Hugging Face hub: whether they are here, and how they get here.

huggingface_hub speaks the hub's API, finds the token and lays out the cache; `download` fetches the weights.
The environment variables are huggingface_hub's: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.
"""

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_token, hf_hub_download, list_repo_tree, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars

from engine_config.download import Corrupt, RemoteFile, download, sha256
from engine_config.progress import Meter, Progress

SMALL = ("*.json", "*.jinja", "tokenizer.model")  # configuration and tokenizer, fetched by huggingface_hub
WEIGHTS = ".safetensors"
TICK = 0.5  # seconds between two reports
AT_ONCE = 4  # files

Report = Callable[[Progress], None]


class HubError(Exception):
    """The files are not available; the message says why and what to do."""


def find(repo: str, revision: str | None = None) -> Path | None:
    """Return the folder of a complete copy in the cache, or None. Does not contact the hub."""
    try:
        folder = Path(
            snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns="config.json")
        )
    except LocalEntryNotFoundError:
        return None
    return None if missing(folder) else folder


def missing(folder: Path) -> list[str]:
    """Return the names of the files that a model needs and `folder` lacks."""
    wanted = {"config.json", "tokenizer.json"}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        wanted.update(json.loads(index.read_text())["weight_map"].values())
    else:
        wanted.add("model.safetensors")
    return sorted(name for name in wanted if not (folder / name).is_file())


def fetch(
    repo: str, revision: str | None = None, report: Report = lambda _: None, *, verify: bool = False
) -> Path:
    """Fetch what is missing of the model, resuming what broke off, and return its folder.

    What is fetched is verified against the hub's SHA-256; with `verify`, what was here before is, too.
    `report` is called every TICK seconds, in this thread. Raises HubError.
    """
    disable_progress_bars()
    with _explained(repo, revision):
        folder = Path(
            snapshot_download(repo, revision=revision, allow_patterns=list(SMALL), ignore_patterns="*/*")
        )
        if constants.is_offline_mode():
            lacking = missing(folder)
            if not lacking:
                return folder
            raise HubError(f"HF_HUB_OFFLINE is set, and {folder} lacks {', '.join(lacking)}")
        weights = _weights(repo, folder.name)
        blobs = folder.parents[1] / "blobs"
        if verify:
            _remove_corrupt(weights, folder, blobs, report)
        _require_space(weights, blobs)
        _fetch_all(weights, blobs, report)
        for file in weights:
            hf_hub_download(repo, file.name, revision=file.commit)  # makes the link to what is in blobs
    if lacking := missing(folder):
        raise HubError(f"{repo} on {constants.ENDPOINT} has no {', '.join(lacking)}")
    return folder


def _weights(repo: str, commit: str) -> list[RemoteFile]:
    """Return the weights at the repository's top, in the one format that is safe to load."""
    return [
        RemoteFile(repo, commit, entry.path, entry.lfs.size, entry.lfs.sha256)
        for entry in list_repo_tree(repo, revision=commit)
        if isinstance(entry, RepoFile) and entry.lfs is not None and _is_weights(entry.path)
    ]


def _is_weights(name: str) -> bool:
    # `consolidated…` is a second copy, in the layout of the model's authors.
    return name.endswith(WEIGHTS) and not name.startswith("consolidated")


def _remove_corrupt(files: Sequence[RemoteFile], folder: Path, blobs: Path, report: Report) -> None:
    """Read every file that is here, which takes a minute for 14 GB, and remove what is not the hub's."""
    here = [file for file in files if file.blob(blobs).exists()]
    meter = Meter(sum(file.size for file in here), "verifying")
    before, said = 0, time.monotonic()

    def read(done: int) -> None:
        nonlocal said
        if time.monotonic() - said >= TICK:
            said = time.monotonic()
            report(meter.at(before + done))

    for file in here:
        blob = file.blob(blobs)
        if blob.stat().st_size != file.size or sha256(blob, read) != file.sha256:
            blob.unlink()
            (folder / file.name).unlink(missing_ok=True)
        before += file.size


def _require_space(files: Sequence[RemoteFile], blobs: Path) -> None:
    needed = sum(file.size - file.bytes_here(blobs) for file in files)
    free = shutil.disk_usage(blobs.parent).free
    if needed > free:
        raise HubError(
            f"{needed / 1e9:.1f} GB are still to be fetched and {constants.HF_HUB_CACHE} has "
            f"{free / 1e9:.1f} GB free: make room, or set HF_HOME to a folder on a larger disk"
        )


def _fetch_all(files: Sequence[RemoteFile], blobs: Path, report: Report) -> None:
    """Fetch the files side by side; the first that fails ends the others."""
    blobs.mkdir(exist_ok=True)
    meter = Meter(sum(file.size for file in files))
    stop = threading.Event()
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
    try:
        running: set[Future[None]] = {pool.submit(download, file, blobs, stop) for file in files}
        while running:
            done, running = wait(running, TICK, FIRST_EXCEPTION)
            report(meter.at(sum(file.bytes_here(blobs) for file in files)))
            for future in done:
                future.result()
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)  # A thread may wait for bytes that do not come.


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Raise HubError, with what to do, for whatever huggingface_hub and the network raise."""
    try:
        yield
    except GatedRepoError:
        address = f"{constants.ENDPOINT}/{repo}"
        raise HubError(f"{repo} is gated: ask for access at {address} and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise HubError(f"{repo} has no revision {revision!r}") from None
    except RepositoryNotFoundError as error:
        raise HubError(_refused(repo, error)) from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise HubError(_refused(repo, error)) from None
        raise HubError(f"{constants.ENDPOINT} answered {error.response.status_code}: {error}") from None
    except (LocalEntryNotFoundError, httpx2.TransportError) as error:
        raise HubError(_unreachable(repo, error)) from None
    except Corrupt as error:
        raise HubError(f"{error}; a proxy or a mirror may be changing it (HF_ENDPOINT)") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HubError(
                f"the disk of {constants.HF_HUB_CACHE} is full: make room, or set HF_HOME to a folder on a "
                "larger disk; what is there is kept, and the next run continues"
            ) from None
        raise HubError(f"{constants.HF_HUB_CACHE}: {error}") from None


def _refused(repo: str, error: HfHubHTTPError) -> str:
    hub, status = constants.ENDPOINT, error.response.status_code
    if get_token():
        return f"{hub} does not give {repo} to this HF_TOKEN ({status}): check the token and its rights"
    return f"{hub} has no {repo}, or it is private ({status}): check the name, or set HF_TOKEN"


def _unreachable(repo: str, error: Exception) -> str:
    if constants.is_offline_mode():
        return (
            f"HF_HUB_OFFLINE is set, and {constants.HF_HUB_CACHE} has no {repo}: unset it to fetch the model"
        )
    cause = error.__cause__ or error
    return (
        f"{constants.ENDPOINT} cannot be reached ({type(cause).__name__}: {cause}): check the network and "
        "the proxy, set HF_ENDPOINT to a mirror, or copy the model here and give its folder as `model` in a "
        "profile"
    )
