"""Reports how much of the weights vLLM has loaded.

vLLM's worker counts the bytes, and this process reads the count: two numbers in a temporary file, whose path
is in the environment of vLLM's processes. This module does not import vLLM.
"""

import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine_config.progress import Meter, Progress

VARIABLE = "LLAVA_GATEWAY_LOADING"  # not GATEWAY_…, which are settings
TICK = 0.5  # seconds between two reads
_COUNT = struct.Struct("=QQ")  # bytes loaded, bytes of the files

Weights = Callable[..., Iterator[tuple[str, Any]]]


@contextmanager
def watched(report: Callable[[Progress], None], folder: Path | None = None) -> Iterator[dict[str, str]]:
    """Yield the variables for vLLM's processes; until the block ends, call `report` with their progress.

    It is called in a separate thread, every TICK seconds from the first byte on. The count's file is in
    `folder`, or in the directory for temporary files.
    """
    stop = threading.Event()
    with tempfile.NamedTemporaryFile(prefix="llava-gateway-loading-", dir=folder) as file:
        thread = threading.Thread(
            target=_watch, args=(file.fileno(), report, stop), name="loading-watch", daemon=True
        )
        thread.start()
        try:
            yield {VARIABLE: file.name}
        finally:
            stop.set()
            thread.join()


def counted(weights: Weights, path: Path) -> Weights:
    """Return vLLM's iterator over the tensors of weight files; it also writes the count to the file `path`.

    A tensor counts when the next one is requested: safetensors maps the files into memory, and a tensor's
    bytes are read when they are copied into the model.
    """

    def counting(files: Sequence[str], *arguments: Any, **named: Any) -> Iterator[tuple[str, Any]]:
        total = sum(Path(file).stat().st_size for file in files)
        done = 0
        with path.open("r+b", buffering=0) as count:
            os.pwrite(count.fileno(), _COUNT.pack(done, total), 0)
            for name, tensor in weights(files, *arguments, **named):
                yield name, tensor
                done += tensor.nbytes
                os.pwrite(count.fileno(), _COUNT.pack(done, total), 0)
            os.pwrite(count.fileno(), _COUNT.pack(total, total), 0)  # with the files' headers

    return counting


def _watch(file: int, report: Callable[[Progress], None], stop: threading.Event) -> None:
    meter: Meter | None = None
    while not stop.wait(TICK):
        count = os.pread(file, _COUNT.size, 0)
        if len(count) < _COUNT.size:  # not begun
            continue
        done, total = _COUNT.unpack(count)
        meter = meter or Meter(total, "loading")
        report(meter.at(done))
