"""The fork server: a process that has imported the engine and forks its core; a restart imports nothing.

It is multiprocessing's own, and on a CPU only: a process that has used CUDA cannot be forked. It starts
before this process has threads, sockets or locks, and ends with this process, even if that is killed.
"""

import importlib.util
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import context, current_process, forkserver, popen_forkserver, popen_spawn_posix
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import structlog

from engine_config.profile import EngineProfile
from gateway.engine import environment
from gateway.engine.runtime_directory import RuntimeDirectory
from gateway.settings import Settings

PRELOADED = ["gateway.engine.vllm_preload"]
OWN = ("gateway", "engine_config")
# Libraries that vLLM adds to LD_PRELOAD, unless it has one of these names: package and patterns beside it.
LIBRARIES = (
    (("libgomp", "libomp", "libiomp"), "torch", ("torch.libs/libgomp*.so*", "torch/lib/libgomp*.so*")),
    (("libtcmalloc",), "vllm", ("vllm/libs/libtcmalloc_minimal*.so*", "vllm/libs/libtcmalloc.so*")),
)

_directory: RuntimeDirectory | None = None  # for the server's socket; None when there is no server

log = structlog.get_logger()


class Process(context.ForkServerProcess):
    """A process forked by the server, with the environment that this process has when it is started.

    It is spawned instead if the server cannot fork it.
    """

    _environment: Mapping[str, str] = {}

    def start(self) -> None:
        self._environment = dict(os.environ)
        super().start()

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802  # multiprocessing's name
        try:
            return popen_forkserver.Popen(process_obj)
        except (OSError, EOFError) as error:
            log.warning("fork_server_failed", reason=f"{type(error).__name__}: {error}")
            return popen_spawn_posix.Popen(process_obj)


class Context(context.ForkServerContext):
    """The multiprocessing context that vLLM starts its core with."""

    Process = Process


def start(profile: EngineProfile) -> None:
    """Start the server with the environment of `profile`'s engine; it imports while this process goes on."""
    global _directory  # noqa: PLW0603  # multiprocessing has one server per process
    variables = environment.of_engine(profile) | environment.of_cpu_engine(profile)
    if libraries := _libraries(os.environ.get("LD_PRELOAD", "")):
        variables["LD_PRELOAD"] = libraries
    with suppress(OSError):  # The engine's start needs the same things, and reports what is wrong.
        _directory = _directory or RuntimeDirectory()
        # multiprocessing's directory for the socket. Its default would stay behind after a SIGKILL.
        current_process()._config["tempdir"] = str(_directory.path)  # type: ignore[attr-defined]  # noqa: SLF001
        # And what the command has imported: the core imports `__main__`, which is the command.
        imported = [name for name in sys.modules if name.partition(".")[0] in OWN]
        forkserver.set_forkserver_preload([*PRELOADED, *imported])
        with environment.applied(variables):
            forkserver.ensure_running()


def start_if_useful(settings: Settings, engine: str, profile: EngineProfile) -> None:
    """Start the server if the installed `engine` runs on a CPU and the settings allow it."""
    if engine == "cpu" and settings.fork_server:
        start(profile)


def started() -> Context | None:
    """Return the context of the server's processes, or None without a server. It replaces one that died."""
    return Context() if _directory is not None else None


def stop() -> None:
    """Kill the server, even while it imports, and remove its directory."""
    global _directory  # noqa: PLW0603  # see `start`
    if _directory is None:
        return
    server: Any = forkserver._forkserver  # noqa: SLF001  # the only place of its id
    with suppress(OSError):
        if server._forkserver_pid is not None:  # noqa: SLF001
            os.kill(server._forkserver_pid, signal.SIGKILL)  # noqa: SLF001
        server._stop()  # noqa: SLF001
    _directory.remove()
    _directory = None
    current_process()._config.pop("tempdir", None)  # type: ignore[attr-defined]  # noqa: SLF001


def _libraries(chosen: str) -> str:
    """Return LD_PRELOAD as vLLM's CPU platform will set it: a forked process takes it from the server."""
    for names, package, patterns in LIBRARIES:
        spec = importlib.util.find_spec(package)  # imports nothing
        if spec is None or spec.origin is None or any(name in chosen for name in names):
            continue
        beside = Path(spec.origin).parent.parent
        found = [str(path) for pattern in patterns for path in sorted(beside.glob(pattern))]
        chosen = ":".join(filter(None, (chosen, *found[:1])))
    return chosen
