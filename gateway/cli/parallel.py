"""Runs work for many items, several at a time, until all are done or Ctrl-C is pressed."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from rich.console import Console

from gateway.cli.progress import show_progress

STOPPING: Final = "stopping: waiting for the requests that run; press Ctrl-C again to leave at once"

_T = TypeVar("_T")


@dataclass(slots=True)
class Tally:
    """How many items this run did, how many failed, and how many had been done before.

    `problems` has the reasons of failures by name, if no output has them. `stopped` is the signal that
    ended the run before its last item.
    """

    done: int = 0
    failed: int = 0
    before: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    stopped: signal.Signals | None = None


async def run_all(
    items: Iterable[_T], work: Callable[[_T], Awaitable[bool]], at_once: int, tally: Tally, console: Console
) -> None:
    """Do `work`, which returns whether it succeeded, for every item, and show progress.

    Ctrl-C or SIGTERM starts no more work and waits for what runs; the second one cancels that.
    """
    waiting = list(items)
    queue = iter(waiting)  # shared: each item is taken once
    tasks: list[asyncio.Task[None]] = []

    def stop(number: signal.Signals) -> None:
        if tally.stopped is None:
            tally.stopped = number
            console.print(STOPPING, highlight=False)
        else:
            for task in tasks:
                task.cancel()

    with show_progress(len(waiting), tally, console) as show, _signals_handled(stop):

        async def worker() -> None:
            for item in queue:
                if tally.stopped is not None:
                    return
                if await work(item):
                    tally.done += 1
                else:
                    tally.failed += 1
                show()

        failed: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(worker()) for _ in range(min(at_once, len(waiting)))]
        except* Exception as errors:  # noqa: BLE001  # the first one is raised below
            failed = errors.exceptions[0]
        if failed is not None:  # Python 3.11.2 puts what is raised inside `except*` into another group.
            raise failed from None


@contextmanager
def _signals_handled(stop: Callable[[signal.Signals], Any]) -> Iterator[None]:
    """Call `stop` for SIGINT and SIGTERM; in a thread that gets no signals, do nothing."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    with suppress(ValueError, RuntimeError):
        for number in numbers:
            loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
