"""`llava-gateway serve` fetches missing weights, starts, and answers as transformers does.

One engine for all tests: its weights come from a hub on this machine, and its profile is made as in
docs/transformers.md, so that the page's snippets can be compared.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_config import profile as profiles
from tests.hub import REPO, Hub, files_of, served
from tests.pages import files_at
from tests.servers import Gateway, start, wait_until_ready
from tests.shapes import encoded
from tests.snippets import python

# The other tests end before an engine starts.
on_the_engine = pytest.mark.engine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/transformers.md").read_text()
SNIPPETS = python(PAGE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the HF_HOME of this module's processes, with a profile whose model is on a hub."""
    folder = tmp_path_factory.mktemp("home")
    text = (profiles.PROFILES / "demo.toml").read_text()
    # In float32 no two tokens are so close that the order of additions matters.
    for name, value in (("model", REPO), ("dtype", "float32")):
        text = re.sub(f"^{name} = .*", f'{name} = "{value}"', text, flags=re.MULTILINE)
    (folder / "llava-1.5-7b.toml").write_text(text)
    sed = re.search(r"^sed .* > same\.toml$", PAGE, re.MULTILINE)
    assert sed is not None
    subprocess.run(
        ["sh", "-c", sed[0].replace("engine_config/profiles/", "")], cwd=folder, check=True, timeout=10
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def from_the_hub(home: Path) -> Iterator[tuple[Gateway, Hub]]:
    """Yield a gateway that fetched its weights, and the hub, which broke off in the middle."""
    with (
        served(Hub(files_of(profiles.FOLDER / "demo_model"), stall_after=4_500_000)) as hub,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in hub.environment.items():
            patch.setenv(name, value)
        gateway, process = start(home, profile=str(home / "same.toml"), fetch_allow="127.0.0.1")
        try:
            while not _stage(gateway).startswith(f"fetching {REPO}: 4.2 of 8.6 MB"):
                assert process.poll() is None
            hub.stall_after = None
            hub.hang_up.set()
            wait_until_ready(gateway, process)
            yield gateway, hub
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        assert code == 0


@on_the_engine
def test_the_first_start_fetches_the_weights_and_continues_where_it_broke_off(
    from_the_hub: tuple[Gateway, Hub],
) -> None:
    _, hub = from_the_hub
    assert hub.ranges() == ["bytes=0-", "bytes=4194304-"]


@on_the_engine
def test_once_the_weights_are_here_vllm_and_transformers_ask_the_hub_for_nothing(
    from_the_hub: tuple[Gateway, Hub],
) -> None:
    _, hub = from_the_hub
    fetched = next(place for place, line in enumerate(hub.asked) if line.endswith("bytes=4194304-"))
    after = [line for line in hub.asked[fetched:] if line.startswith("HEAD") or "/api/" in line]
    assert [line.rpartition("/")[2] for line in after] == ["model.safetensors -"]  # the cache's link to it


@on_the_engine
@pytest.mark.parametrize("number", [0, 2], ids=["pipeline", "pure transformers"])
def test_the_snippets_of_the_page_print_the_same_answers(
    from_the_hub: tuple[Gateway, Hub], tmp_path: Path, number: int
) -> None:
    gateway, hub = from_the_hub
    (tmp_path / "wide.png").write_bytes(encoded("star", "red", x=0.3))
    with files_at(tmp_path) as address:
        theirs, ours = (
            _printed(_adapted(SNIPPETS[place], gateway, f"{address}/wide.png"), hub)
            for place in (number, number + 1)
        )
    assert theirs["prompt_tokens"] == ours["prompt_tokens"]
    assert theirs["text"] == ours["text"]
    assert theirs["text"]


@pytest.mark.slow
def test_weights_that_cannot_be_had_end_the_start_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    gateway, process = start(tmp_path, profile=str(home / "same.toml"))
    assert process.wait(120) == 1
    assert gateway.log is not None
    log = gateway.log.read_text()
    assert f"HF_HUB_OFFLINE is set, and {tmp_path / 'hub'} has no {REPO}: unset it to fetch the model" in log
    assert "Traceback" not in log


@pytest.mark.slow
def test_a_start_that_waits_for_its_weights_ends_when_it_is_told_to(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(Hub(files_of(profiles.FOLDER / "demo_model"), stall_after=4_500_000)) as hub:
        for name, value in (hub.environment | {"HF_HOME": str(tmp_path)}).items():
            monkeypatch.setenv(name, value)
        gateway, process = start(tmp_path, profile=str(home / "same.toml"), drain_delay="0")
        while not _stage(gateway).startswith(f"fetching {REPO}: 4.2 of 8.6 MB"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _stage(gateway: Gateway) -> str:
    time.sleep(0.05)
    try:
        with urllib.request.urlopen(f"{gateway.url}/health/ready", timeout=5):
            return "ready"
    except urllib.error.HTTPError as error:
        with error:
            return str(json.load(error)["stage"])
    except urllib.error.URLError:
        return "not listening"


def _adapted(snippet: str, gateway: Gateway, picture: str) -> str:
    """Return a snippet adapted to this machine's addresses and model, without a GPU."""
    changes = {
        # transformers would decode with torchvision, whose CUDA build fails beside a CPU torch.
        r'"type": "image",\s+"url": "[^"]*"': f'"type": "image", "image": open_picture("{picture}")',
        r"http://127\.0\.0\.1:8000": gateway.url,
        r"https?://(huggingface\.co|images\.cocodataset\.org)[^\"]*": picture,
        r'model="llava-hf/[^"]*", messages': 'model="llava-demo", messages',
        r'model="llava-hf/[^"]*",\n    messages': 'model="llava-demo",\n    messages',
        r'"llava-hf/[^"]*"': f'"{REPO}"',
        r"\.to\(0\)": "",
        r"\.to\(0, torch\.float16\)": "",
        r"dtype=torch\.float16": "dtype=torch.float32",
    }
    for pattern, replacement in changes.items():
        snippet = re.sub(pattern, replacement, snippet)
    return snippet


def _printed(program: str, hub: Hub) -> dict[str, object]:
    """Run a snippet; return its output and its prompt's number of tokens."""
    program = (
        "def open_picture(url):\n"
        "    import requests\n"
        "    from PIL import Image\n"
        "    return Image.open(requests.get(url, stream=True).raw)\n"
    ) + program
    program += (
        "\nimport sys\n"
        "names = globals()\n"
        "usage = getattr(names.get('out') or names.get('output'), 'usage', None)\n"
        "if usage: count = usage.prompt_tokens\n"
        "elif 'inputs' in names: count = inputs['input_ids'].shape[1]\n"
        "else: count = pipe.processor.apply_chat_template(\n"
        "    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors='pt'\n"
        ")['input_ids'].shape[1]\n"
        "print(count, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | hub.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    with contextlib.suppress(ValueError, IndexError):
        count = int(done.stderr.splitlines()[-1])
        return {"text": done.stdout.strip(), "prompt_tokens": count}
    raise AssertionError(done.stderr)
