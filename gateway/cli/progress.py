"""Shows how far many requests are: a bar on a terminal, a line every few seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from gateway.cli.parallel import Tally

TICK: Final = 5.0  # seconds between two lines if there is no terminal


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed is not None else "")


@contextmanager
def show_progress(waiting: int, tally: "Tally", console: Console) -> Iterator[Callable[[], None]]:
    """Yield a function that shows the tally, the rate and the time left."""
    if not console.is_terminal:
        yield _line_printer(waiting, tally, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, _RateColumn(), TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("answered", total=waiting + tally.before + tally.failed)
        progress.update(bar, completed=tally.before + tally.failed)

        def update() -> None:
            failed = f" ({tally.failed} failed)" if tally.failed else ""
            completed = tally.before + tally.done + tally.failed
            progress.update(bar, completed=completed, description=f"answered{failed}")

        yield update


def _line_printer(waiting: int, tally: "Tally", console: Console) -> Callable[[], None]:
    began = printed = time.monotonic()
    total, failed_before = waiting + tally.before + tally.failed, tally.failed

    def show() -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed < TICK:
            return
        printed, done = now, tally.done + tally.failed - failed_before
        rate = done / (now - began)
        failed = f" ({tally.failed} failed)" if tally.failed else ""
        count = f"{tally.before + failed_before + done} of {total}"
        left = f"{(waiting - done) / rate:.0f} s left"
        console.print(f"answered{failed} {count}, {rate:.1f}/s, {left}", highlight=False)

    return show
