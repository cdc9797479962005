"""Work for many items: the second Ctrl-C does not wait, and an error ends the run."""

import asyncio
import io
import signal

import pytest
from rich.console import Console

from gateway.cli.parallel import Tally, run_all
from tests.servers import until


async def test_second_ctrl_c_leaves_at_once() -> None:
    begun = []

    async def work(item: int) -> bool:
        begun.append(item)
        await asyncio.Event().wait()
        return True

    tally = Tally()
    running = asyncio.create_task(run_all(range(9), work, 2, tally, Console(file=io.StringIO())))
    await until(lambda: len(begun) == 2)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running), 0.05)
    signal.raise_signal(signal.SIGINT)
    await asyncio.wait_for(running, 10)
    assert (begun, tally.done, tally.failed, tally.stopped) == ([0, 1], 0, 0, signal.SIGINT)


async def test_error_ends_the_run_as_it_is() -> None:
    async def work(item: int) -> bool:
        if item == 1:
            raise OSError(28, "No space left on device")
        await asyncio.sleep(0)
        return True

    with pytest.raises(OSError, match="No space left"):
        await run_all(range(1000), work, 2, tally := Tally(), Console(file=io.StringIO()))
    assert tally.done < 10
