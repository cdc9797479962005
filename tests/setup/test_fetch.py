"""`llava-gateway fetch`, against a hub on this machine: what is fetched, resumed, verified and refused."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine_config import hub as weights
from engine_config import profile as profiles
from engine_config.download import RemoteFile
from engine_config.progress import Progress
from tests.hub import COMMIT, REPO, Hub, files_of, served

pytestmark = pytest.mark.slow

DEMO = profiles.FOLDER / "demo_model"
FILES = files_of(DEMO)
DIGEST = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
SIZE = len(FILES["model.safetensors"])


@pytest.fixture
def hub() -> Iterator[Hub]:
    with served(Hub(FILES)) as running:
        yield running


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an HF_HOME that has all of the repository."""
    home = tmp_path_factory.mktemp("fetched")
    with served(Hub(FILES)) as running:
        assert fetch(running, home).returncode == 0
    return home


@pytest.fixture
def complete(fetched: Path, tmp_path: Path) -> None:
    """Make `tmp_path` an HF_HOME that has all of the repository."""
    shutil.copytree(fetched / "hub", tmp_path / "hub", symlinks=True)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return where huggingface_hub keeps the repository under HF_HOME, which is `tmp_path`."""
    return tmp_path / "hub" / f"models--{REPO.replace('/', '--')}"


def write_profile(folder: Path, model: str = REPO, extra: str = "") -> Path:
    text = (profiles.PROFILES / "demo.toml").read_text().replace('"demo_model"', f'"{model}"')
    path = folder / "mine.toml"
    path.write_text(extra + text)
    return path


def command(home: Path, model: str = REPO, extra: str = "") -> list[str | Path]:
    return [sys.executable, "-m", "gateway", "fetch", "--profile", write_profile(home, model, extra)]


def environment(hub: Hub, home: Path, **chosen: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GATEWAY_"))}
    return clean | hub.environment | {"HF_HOME": str(home)} | chosen


def fetch(
    hub: Hub, home: Path, *, model: str = REPO, extra: str = "", **chosen: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(home, model, extra),
        env=environment(hub, home, **chosen),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Expect the command to end with 1 and return the error that it printed."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.partition("error: ")[2].strip()


def test_it_fetches_what_the_engine_needs_and_says_where_it_is(hub: Hub, tmp_path: Path, cache: Path) -> None:
    done = fetch(hub, tmp_path)
    folder = cache / "snapshots" / COMMIT
    assert (done.returncode, done.stdout) == (0, f"{folder}\n"), done.stderr
    assert f"fetching {REPO}: 8.6 of 8.6 MB" in done.stderr
    assert {path.name for path in folder.iterdir()} == {path.name for path in DEMO.glob("*.[js][sa]*[ns]")}
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not any("pytorch_model.bin" in line or "onnx" in line for line in hub.asked)


@pytest.mark.usefixtures("complete")
def test_a_second_run_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path).returncode == 0
    assert not any("/resolve/" in line or "/network/" in line for line in hub.asked)


def test_a_start_with_a_complete_copy_asks_the_hub_for_nothing(
    hub: Hub, tmp_path: Path, fetched: Path
) -> None:
    program = [sys.executable, "-c", f"from engine_config import hub; print(hub.find({REPO!r}))"]
    copy = fetched / "hub" / f"models--{REPO.replace('/', '--')}" / "snapshots" / COMMIT
    for home, expected in ((tmp_path, None), (fetched, copy)):
        found = subprocess.check_output(program, env=environment(hub, home), text=True)
        assert (found, hub.asked) == (f"{expected}\n", [])


def test_a_download_that_breaks_is_continued(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = [3_000_000]
    assert fetch(hub, tmp_path).returncode == 0
    first, second = hub.ranges()
    assert first == "bytes=0-"
    assert 2_000_000 < int(second.removeprefix("bytes=").removesuffix("-")) <= 3_000_000


def test_a_run_that_was_ended_is_continued_by_the_next(hub: Hub, tmp_path: Path, cache: Path) -> None:
    hub.stall_after = 5_000_000
    partial = cache / "blobs" / f"{DIGEST}.incomplete"
    running = subprocess.Popen(command(tmp_path), env=environment(hub, tmp_path), stderr=subprocess.PIPE)
    while not partial.exists() or partial.stat().st_size < 4_000_000:
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert said.endswith(b"stopped; what is here is kept, and the next run continues\n")
    assert running.returncode == 130
    here = partial.stat().st_size
    hub.stall_after, hub.asked = None, []
    done = fetch(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.ranges() == [f"bytes={here}-"]


def test_what_arrives_changed_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.corrupt = 1
    assert fetch(hub, tmp_path).returncode == 0
    assert hub.ranges() == ["bytes=0-"] * 2


def test_what_arrives_changed_twice_is_not_kept(hub: Hub, tmp_path: Path, cache: Path) -> None:
    hub.corrupt = 2
    assert refused(fetch(hub, tmp_path)) == (
        "model.safetensors arrived with a wrong SHA-256 twice; "
        "a proxy or a mirror may be changing it (HF_ENDPOINT)"
    )
    assert not (cache / "blobs" / DIGEST).exists()


@pytest.mark.usefixtures("complete")
def test_what_was_damaged_on_this_disk_is_found_and_fetched_again(
    hub: Hub, tmp_path: Path, cache: Path
) -> None:
    blob = cache / "blobs" / DIGEST
    with blob.open("r+b") as file:
        file.seek(4_000_000)
        file.write(b"damage")
    assert fetch(hub, tmp_path).returncode == 0
    assert blob.read_bytes() == FILES["model.safetensors"]


def test_the_token_goes_to_the_hub_and_not_to_its_content_network(hub: Hub, tmp_path: Path) -> None:
    hub.token = "hf_right"
    assert fetch(hub, tmp_path, HF_TOKEN="hf_right").returncode == 0
    assert hub.tokens_seen_by_the_network == {None}


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ({}, "has no tests/llava-tiny, or it is private (401): check the name, or set HF_TOKEN"),
        (
            {"HF_TOKEN": "hf_wrong"},
            "does not give tests/llava-tiny to this HF_TOKEN (401): check the token and its rights",
        ),
    ],
    ids=["none", "wrong"],
)
def test_a_token_that_is_missing_or_wrong_is_told(
    hub: Hub, tmp_path: Path, token: dict[str, str], said: str
) -> None:
    hub.token = "hf_right"
    assert refused(fetch(hub, tmp_path, **token)) == f"http://127.0.0.1:{hub.port} {said}"


def test_a_gated_model_is_told_with_where_to_ask_for_access(hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    address = f"http://127.0.0.1:{hub.port}/{REPO}"
    assert refused(fetch(hub, tmp_path)) == f"{REPO} is gated: ask for access at {address} and set HF_TOKEN"


def test_a_revision_is_fetched_by_its_name(hub: Hub, tmp_path: Path, cache: Path) -> None:
    done = fetch(hub, tmp_path, extra=f'revision = "{COMMIT}"\n')
    assert done.stdout == f"{cache / 'snapshots' / COMMIT}\n"
    said = refused(fetch(hub, tmp_path, extra='revision = "v9"\n'))
    assert said == f"{REPO} has no revision 'v9'"


@pytest.mark.usefixtures("complete")
def test_offline_a_complete_copy_is_enough(hub: Hub, tmp_path: Path, cache: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    said = refused(fetch(hub, empty, HF_HUB_OFFLINE="1"))
    assert said.startswith(f"HF_HUB_OFFLINE is set, and {empty / 'hub'} has no {REPO}")
    done = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout, hub.asked) == (0, f"{cache / 'snapshots' / COMMIT}\n", [])
    (cache / "snapshots" / COMMIT / "model.safetensors").unlink()
    said = refused(fetch(hub, tmp_path, HF_HUB_OFFLINE="1"))
    assert said == f"HF_HUB_OFFLINE is set, and {cache / 'snapshots' / COMMIT} lacks model.safetensors"


def test_a_hub_that_cannot_be_reached_is_told_with_what_to_do(tmp_path: Path) -> None:
    said = refused(fetch(Hub({}, port=9), tmp_path))
    assert said.startswith("http://127.0.0.1:9 cannot be reached (ConnectError: ")
    assert "check the network and the proxy, set HF_ENDPOINT to a mirror, or copy the model here" in said


def test_a_repository_without_safetensors_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.files = {name: data for name, data in FILES.items() if not name.endswith(".safetensors")}
    assert refused(fetch(hub, tmp_path)) == (
        f"{REPO} on http://127.0.0.1:{hub.port} has no model.safetensors"
    )


def test_a_local_folder_is_taken_as_it_is(hub: Hub, tmp_path: Path) -> None:
    done = fetch(hub, tmp_path, model=str(DEMO))
    assert (done.returncode, done.stdout, hub.asked) == (0, f"{DEMO}\n", [])


def test_a_local_folder_that_lacks_a_file_is_told(hub: Hub, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    index = (
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    (model / "model.safetensors.index.json").write_text(index)
    (model / "model-00001-of-00002.safetensors").touch()
    said = refused(fetch(hub, tmp_path, model=str(model)))
    assert said == f"{model} lacks model-00002-of-00002.safetensors, tokenizer.json"


def test_a_full_disk_is_told_and_what_was_fetched_is_kept(hub: Hub, tmp_path: Path, cache: Path) -> None:
    partial = cache / "blobs" / f"{DIGEST}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    said = refused(fetch(hub, tmp_path))
    assert said.startswith(f"the disk of {tmp_path / 'hub'} is full: make room, or set HF_HOME")


def test_too_little_room_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    half = RemoteFile(REPO, COMMIT, "a.safetensors", 4_000_000_000, "a" * 64)
    with half.partial(blobs).open("wb") as file:
        file.truncate(1_000_000_000)  # sparse
    whole = RemoteFile(REPO, COMMIT, "b.safetensors", 2_000_000_000, "b" * 64)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000_000))
    weights._require_space([half, whole], blobs)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4_900_000_000))
    with pytest.raises(weights.HubError, match=r"^5\.0 GB are still to be fetched and .* has 4\.9 GB free"):
        weights._require_space([half, whole], blobs)


def test_verifying_what_is_here_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "TICK", 0.0)
    content = bytes(40 * 2**20)
    file = RemoteFile("r", COMMIT, "model.safetensors", len(content), hashlib.sha256(content).hexdigest())
    file.blob(tmp_path).write_bytes(content)
    told: list[Progress] = []
    weights._remove_corrupt([file], tmp_path, tmp_path, told.append)
    assert [progress.done for progress in told] == [2**24, 2**25, len(content)]
    assert {(progress.doing, progress.total) for progress in told} == {("verifying", len(content))}
    assert file.blob(tmp_path).exists()
