"""What runs in the process of vLLM's engine core before vLLM does. Written against vLLM 0.32."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, parent_process
from multiprocessing.context import BaseContext
from typing import Any
from uuid import uuid4

# vLLM's own while ours is in its place: a forked child inherits both, a spawned one neither.
_replaced: Callable[..., None] | None = None


def run_engine_core(*arguments: Any, **named: Any) -> None:
    """Run vLLM's engine core; it ends with the process that started it, and logs no request's content.

    Its files are in the directory of its sockets (`VLLM_RPC_BASE_PATH`), not where nobody removes them.
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

        # Not by the argument `scheduler_cls`: vLLM warns of it at each start.
        scheduler.Scheduler = PacedScheduler

    core.dump_engine_exception = _say_what_ran
    run = _replaced or core.EngineCoreProc.run_engine_core
    run(*arguments, **named)


@contextmanager
def started_here(context: BaseContext | None = None) -> Iterator[None]:
    """Let vLLM start its core with `run_engine_core` above, while the block runs; in `context` if given."""
    global _replaced  # noqa: PLW0603  # what a class of vLLM's lacks meanwhile
    from vllm.v1.engine import utils
    from vllm.v1.engine.core import EngineCoreProc

    chosen = utils.get_mp_context
    if context is not None:
        utils.get_mp_context = lambda: context
    _replaced = EngineCoreProc.run_engine_core
    # A process that is spawned imports its target by name: there vLLM's own is in place.
    EngineCoreProc.run_engine_core = staticmethod(run_engine_core)
    try:
        yield
    finally:
        EngineCoreProc.run_engine_core, _replaced = staticmethod(_replaced), None
        utils.get_mp_context = chosen


def _end_with_parent() -> None:
    """Have this process killed as soon as its parent is gone, or the fork server, however that went.

    Not by PR_SET_PDEATHSIG, which counts the end of the thread that started us as the parent's.
    """
    parent = parent_process()
    if parent is None:
        return

    gone: list[Any] = [parent.sentinel]
    with suppress(OSError, AttributeError):  # an older kernel, another system
        gone.append(os.pidfd_open(os.getppid()))  # the fork server, which the parent may lose alone

    def wait() -> None:
        connection.wait(gone)
        os._exit(1)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def _file_store() -> str:
    """Return where the processes of one model meet: as vLLM's own function, in another directory."""
    from vllm import envs

    return f"file://{envs.VLLM_RPC_BASE_PATH}/vllm_dist_{uuid4().hex}"


def _say_what_ran(_config: Any, scheduled: Any, _stats: Any) -> None:
    """Log, in place of vLLM's dump of whole requests, how much of which requests was running."""
    from vllm.logger import init_logger

    init_logger("vllm.engine_core").error(
        "The engine died in a step of %s tokens for the requests %s",
        scheduled.total_num_scheduled_tokens,
        scheduled.num_scheduled_tokens,
    )
