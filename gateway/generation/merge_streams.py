"""The deltas of several jobs as one stream."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.engine.interface import Delta


async def merged(streams: Sequence[AsyncGenerator[Delta]], choices: int) -> AsyncGenerator[Delta]:
    """Yield the deltas of all `streams` as they come.

    Each stream has `choices` choices; they are numbered through, in the order of the streams. The first
    stream that fails ends the others, and its exception is raised; closing this closes them all.
    """
    arrived: asyncio.Queue[Delta | Exception | None] = asyncio.Queue()

    async def pass_on(stream: AsyncGenerator[Delta], first: int) -> None:
        try:
            async with aclosing(stream):
                async for delta in stream:
                    arrived.put_nowait(replace(delta, index=first + delta.index))
            arrived.put_nowait(None)
        except Exception as error:  # noqa: BLE001  # raised where the deltas are awaited
            arrived.put_nowait(error)

    tasks = [asyncio.create_task(pass_on(stream, at * choices)) for at, stream in enumerate(streams)]
    running = len(tasks)
    try:
        while running:
            match await arrived.get():
                case None:
                    running -= 1
                case Exception() as error:
                    raise error
                case delta:
                    yield delta
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
