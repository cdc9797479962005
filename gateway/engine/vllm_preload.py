"""What the fork server imports, and only it: all that the core imports before it loads a model.

No thread may be left, because a fork does not copy it, and nothing may use CUDA. `vllm_worker` is not
imported: it reads one start's environment at its import, and patches plug-ins that only the core loads.
"""

import gc
import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gateway.engine import imports

MODULES = (
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.executor.multiproc_executor",
    "vllm.model_executor.models.llava",
    "vllm.model_executor.model_loader.default_loader",
    "gateway.engine.fork_server",
    "gateway.engine.vllm_core",
    "gateway.engine.vllm_scheduler",
    "gateway.engine.vllm_cpu_worker",
)
LOOK_EVERY = 0.2  # seconds


@contextmanager
def _ending_with_parent() -> Iterator[None]:
    """Exit if the parent dies while the block runs. Later multiprocessing does that: its pipe is closed."""
    parent, imported = os.getppid(), threading.Event()

    def watch() -> None:
        while not imported.wait(LOOK_EVERY):
            if os.getppid() != parent:
                os._exit(1)

    thread = threading.Thread(target=watch, name="parent-watch", daemon=True)
    thread.start()
    yield
    imported.set()
    thread.join()


def _preload() -> None:
    # Ctrl-C reaches all processes of the terminal; only the gateway acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _ending_with_parent(), imports.without_audio():
        for name in MODULES:
            with suppress(Exception):  # The core imports it again, and reports what is wrong.
                importlib.import_module(name)
        with suppress(ImportError):  # It must find the title's memory before the environment moves.
            importlib.import_module("setproctitle").getproctitle()
    gc.collect()
    gc.freeze()  # The collector would write to memory that is shared with the core.


_preload()
