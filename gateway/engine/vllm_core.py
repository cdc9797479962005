"""Starts vLLM's engine core, and prepares its process before vLLM runs in it. Written against vLLM 0.32."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, parent_process
from multiprocessing.context import BaseContext
from typing import Any
from uuid import uuid4

# vLLM's function while it is replaced. A forked child inherits the replacement, a spawned one does not.
_replaced: Callable[..., None] | None = None


def run_engine_core(*arguments: Any, **named: Any) -> None:
    """Run vLLM's engine core; it ends with the process that started it, and logs no request's content.

    Its files are in the directory of its sockets (`VLLM_RPC_BASE_PATH`), removed when the engine ends.
    """
    _end_with_parent()
    from vllm.platforms import current_platform
    from vllm.v1.core.sched import scheduler
    from vllm.v1.engine import core
    from vllm.v1.executor import multiproc_executor, uniproc_executor

    for executor in (uniproc_executor, multiproc_executor):
        executor.get_file_store_init_method = _file_store
    if current_platform.is_cpu():
        from gateway.engine.vllm_scheduler import PacedScheduler

        # Not by the argument `scheduler_cls`, which makes vLLM log a warning at each start.
        scheduler.Scheduler = PacedScheduler

    core.dump_engine_exception = _say_what_ran
    run = _replaced or core.EngineCoreProc.run_engine_core
    run(*arguments, **named)


@contextmanager
def started_here(context: BaseContext | None = None) -> Iterator[None]:
    """Make vLLM start its core with `run_engine_core`, in `context` if given, until the block ends."""
    global _replaced  # noqa: PLW0603  # vLLM's class lacks it until the block ends
    from vllm.v1.engine import utils
    from vllm.v1.engine.core import EngineCoreProc

    chosen = utils.get_mp_context
    if context is not None:
        utils.get_mp_context = lambda: context
    _replaced = EngineCoreProc.run_engine_core
    # A spawned process imports its target by name, and gets vLLM's function under this name.
    EngineCoreProc.run_engine_core = staticmethod(run_engine_core)
    try:
        yield
    finally:
        EngineCoreProc.run_engine_core, _replaced = staticmethod(_replaced), None
        utils.get_mp_context = chosen


def _end_with_parent() -> None:
    """Exit as soon as the gateway or the fork server ends, even if it is killed.

    PR_SET_PDEATHSIG would not do: it acts when the thread that started this process ends.
    """
    parent = parent_process()
    if parent is None:
        return

    gone: list[Any] = [parent.sentinel]
    with suppress(OSError, AttributeError):  # an older kernel or another system
        gone.append(os.pidfd_open(os.getppid()))  # the fork server, if there is one

    def wait() -> None:
        connection.wait(gone)
        os._exit(1)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def _file_store() -> str:
    """Return the file where one model's processes meet; vLLM's function with another directory."""
    from vllm import envs

    return f"file://{envs.VLLM_RPC_BASE_PATH}/vllm_dist_{uuid4().hex}"


def _say_what_ran(_config: Any, scheduled: Any, _stats: Any) -> None:
    """Log which requests ran and their tokens in this step, instead of vLLM's dump of their content."""
    from vllm.logger import init_logger

    init_logger("vllm.engine_core").error(
        "The engine died in a step of %s tokens for the requests %s",
        scheduled.total_num_scheduled_tokens,
        scheduled.num_scheduled_tokens,
    )
