"""One engine on a machine without a compiler, with empty caches and a long path for temporary files.

A PATH without compilers stands for the machine. What else it may lack, `make fresh-machine` shows.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from PIL import Image

from gateway.engine.runtime_directory import PREFIX
from gateway.schema.completions import CompletionRequest
from gateway.schema.sampling import SamplingFields
from tests.api.asking import MODEL, chat, image, saying, text
from tests.images.pictures import url_of
from tests.servers import Gateway, start, wait_until_ready

pytestmark = pytest.mark.engine

COMPILERS = re.compile(r".*(g\+\+|gcc|clang|cpp).*|c\+\+.*|cc|c89.*|c99.*")
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT")
LONG = 73  # characters: with vLLM's names, more than a socket's path may have
LATER = 1.0  # seconds that the first request of a kind may take more than the second
SOON = 5.0  # seconds; an idle gateway takes half of one, and vLLM killed its core after ten
SCHEMA = {"type": "object", "properties": {"sides": {"type": "integer"}}, "required": ["sides"]}
TOOL = {"type": "function", "function": {"name": "count", "parameters": SCHEMA}}
FIELDS: dict[str, Any] = {  # a request each, with what it needs beside
    "max_tokens": {"max_tokens": 5},
    "max_completion_tokens": {"max_completion_tokens": 5},
    "temperature": {"temperature": 1},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 5},
    "min_p": {"min_p": 0.1},
    "n": {"n": 3},
    "seed": {"seed": 1, "temperature": 1},
    "stop": {"stop": "x"},
    "stop_token_ids": {"stop_token_ids": [5]},
    "presence_penalty": {"presence_penalty": 1},
    "frequency_penalty": {"frequency_penalty": 1},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "logit_bias": {"logit_bias": {"5": -100}},
    "min_tokens": {"min_tokens": 3},
    "ignore_eos": {"ignore_eos": True},
    "logprobs": {"logprobs": True},
    "top_logprobs": {"logprobs": True, "top_logprobs": 20},
}
PICTURE = image(url_of(Image.effect_noise((90, 70), 90)))
FORMS: dict[str, Any] = {
    "text": {},
    "stream": {"stream": True},
    "picture": {"messages": saying(PICTURE, text("What is it?"))},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "shape", "schema": SCHEMA}}
    },
    "regex": {"structured_outputs": {"regex": "[a-z]{3}"}},
    "choice": {"structured_outputs": {"choice": ["red", "blue"]}},
    "grammar": {"structured_outputs": {"grammar": 'root ::= "a" | "b"'}},
    "tools": {"tools": [TOOL]},
    "tool_choice": {"tools": [TOOL], "tool_choice": "required"},
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "completions": ("completions", {"prompt": ["Hello", "Hi"]}),
    "echo": ("completions", {"prompt": "Hello", "echo": True, "logprobs": 5}),
    "responses": ("responses", {"input": "Hello", "max_output_tokens": 5}),
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, subprocess.Popen[bytes]]]:
    """Yield a gateway that comes up on such a machine, and its process; a test ends it."""
    folder = tmp_path_factory.mktemp("bare")
    programs = folder / "bin"
    programs.mkdir()
    for path in os.get_exec_path():
        for program in Path(path).glob("*"):
            if not COMPILERS.fullmatch(program.name) and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    temporary = folder / "temporary".ljust(LONG, "x")
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs))
        patch.setenv("TMPDIR", str(temporary))
        for name in CACHES:
            patch.setenv(name, str(folder / "cache"))
        gateway, process = start(folder, profile="demo")
    try:
        wait_until_ready(gateway, process)
        yield gateway, process
    finally:
        process.kill()
        process.wait()


def seconds(gateway: Gateway, path: str, body: dict[str, Any]) -> float:
    began = time.monotonic()
    answer = httpx2.post(f"{gateway.api}/{path}", json=body, timeout=120, trust_env=False)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - began


def test_the_first_request_of_every_kind_is_as_fast_as_the_second(
    bare: tuple[Gateway, subprocess.Popen[bytes]],
) -> None:
    assert set(FIELDS) == set(SamplingFields.model_fields)  # a new one belongs here
    assert set(CompletionRequest.model_fields) - set(FIELDS) == {
        *("model", "prompt", "echo", "stream", "stream_options")
    }
    chats = {name: ("chat/completions", chat(**{"max_tokens": 40} | more)) for name, more in FORMS.items()}
    chats |= {name: ("chat/completions", chat(**{"max_tokens": 5} | more)) for name, more in FIELDS.items()}
    others = {name: (path, {"model": MODEL} | body) for name, (path, body) in OTHERS.items()}
    slow = {}
    for name, (path, body) in (chats | others).items():
        first, second = seconds(bare[0], path, body), seconds(bare[0], path, body)
        if first > second + LATER:
            slow[name] = (first, second)
    assert slow == {}


def test_it_leaves_soon_with_0_and_no_process_or_file_behind(
    bare: tuple[Gateway, subprocess.Popen[bytes]],
) -> None:
    gateway, process = bare
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("EngineCore" in child.name() for child in family)
    sockets = [str(opened.laddr) for opened in psutil.Process(process.pid).net_connections("unix")]
    (directory,) = {Path(path).parent for path in sockets if path.startswith("/")}
    assert directory.name.startswith(PREFIX)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(60) == 0
    assert time.monotonic() - began < SOON
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert not directory.exists()
    assert gateway.log is not None
    (temporary,) = gateway.log.parent.glob("temporary*")
    assert list(temporary.iterdir()) == []
    assert "force killing" not in gateway.log.read_text()
