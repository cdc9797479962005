"""What a server's time goes into: py-spy's samples of its process, summed by stage."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

RATE = 100  # samples a second

# A sample belongs to the first stage that one of its frames names, the innermost frame first.
STAGES: Mapping[str, tuple[str, ...]] = {
    "base64": ("images/source.py", "base64"),
    "decode": (
        "images/header.py",
        "images/decode.py",
        "PIL/JpegImagePlugin",
        "PIL/ImageFile",
        "PIL/PngImagePlugin",
        "media/image.py",
    ),
    "fit": ("images/fit.py",),
    "key": ("_key (", "multimodal/hasher.py"),
    "pictures, other": ("gateway/images/", "vllm/multimodal/media", "vllm/entrypoints/chat_utils.py"),
    "prompt": ("gateway/prompt/", "engine/vocabulary.py", "jinja2/", "vllm/tokenizers"),
    "parse": ("schema/validation.py", "pydantic/"),
    "engine's processor": ("transformers/", "vllm/multimodal", "vllm/renderers", "vllm/inputs"),
    "engine's output": ("output_processor.py", "detokenizer.py", "vllm/v1/engine/async_llm.py"),
    "engine's messages": ("zmq/", "msgspec", "vllm/v1/serial_utils.py", "vllm/v1/engine/"),
    "reply": (
        "schema/sse.py",
        "gateway/generation/reply.py",
        "gateway/api/",
        "vllm/entrypoints/openai",
        "vllm/entrypoints/serve",
    ),
    "metrics and logs": ("prometheus_client/", "structlog/", "logging/", "vllm/v1/metrics"),
    "HTTP": ("uvicorn/", "starlette/", "fastapi/", "httptools", "uvloop"),
}

# Threads that wait in a call which py-spy takes for work.
WAITING = (
    ("_worker", "concurrent/futures/thread.py"),
    ("Condition.wait", "threading.py"),
    ("GarbageCollectorThread.run", "zmq/utils/garbage.py"),
    ("_PollLikeSelector.select", "selectors.py"),
    ("Connection._recv", "multiprocessing/connection.py"),
)


@contextmanager
def sampled(pid: int, out: Path) -> Iterator[None]:
    """Sample process `pid` until the block ends; `out` then has its stacks, one a line, with their number."""
    program = Path(sys.executable).with_name("py-spy")  # installed beside this Python
    command = [str(program), "record", "--pid", str(pid), "--format", "raw", "--function", "--full-filenames"]
    recording = subprocess.Popen(
        [*command, "--rate", str(RATE), "--duration", "3600", "--output", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        recording.send_signal(signal.SIGINT)
        recording.wait(60)


def read(stacks: Iterable[str]) -> dict[str, float]:
    """Return the CPU seconds by stage, most first; `stacks` are lines `frame;…;frame samples`."""
    samples: Counter[str] = Counter()
    for line in stacks:
        stack, _, number = line.rpartition(" ")
        frames = stack.split(";")
        if stack and not _waits(frames[-1]):
            samples[_stage(frames)] += int(number)
    return {stage: number / RATE for stage, number in samples.most_common()}


def _waits(frame: str) -> bool:
    return any(frame.startswith(f"{function} (") and file in frame for function, file in WAITING)


def _stage(frames: list[str]) -> str:
    for frame in reversed(frames):
        for stage, marks in STAGES.items():
            if any(mark in frame for mark in marks):
                return stage
    return "other"
