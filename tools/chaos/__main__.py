"""`python -m tools.chaos`: honest load with every fault in turn, and one table.

Exits with 1 where a promise is broken.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console

from tests.haproxy import haproxy
from tests.servers import metric
from tools.chaos import report
from tools.chaos.faults import ALONE, AROUND, BEHIND_HAPROXY, Fault, Scene, disk_full
from tools.chaos.load import asks, honest_load, right_ones
from tools.chaos.outcomes import Ask
from tools.chaos.stand import (
    HONEST,
    SETTINGS,
    Redis,
    Replica,
    Stand,
    small_disk,
    watched_memory,
)

PAGE = Path(__file__).parents[2] / "docs/reports/chaos.md"
PICTURES = 24
BUSY = 0.5  # of a core, that others use before the start: the page says so
GAUGES = ("gateway_in_flight", "gateway_waiting", "gateway_memory_held_bytes")


class Chaos:
    """One run: what it has found so far."""

    def __init__(self, console: Console, only: str) -> None:
        self.rows: list[report.Row] = []
        self.broken: list[str] = []
        self.held = "nothing"
        self._console = console
        self._only = only

    def chosen(self, faults: Iterable[Fault]) -> list[Fault]:
        return [fault for fault in faults if re.search(self._only, fault.name)]

    async def alone(self, folder: Path) -> None:
        """Attack one gateway."""
        async with AsyncExitStack() as stack:
            disk = stack.enter_context(small_disk(folder / "disk"))
            redis = Redis(folder / "redis")
            redis.start()
            stack.callback(redis.stop)
            state = {"state_dir": str(disk)} if disk else {}
            replica = Replica(folder / "one", SETTINGS | {"limits_url": redis.url} | state)
            stack.callback(replica.kill)
            replica.start()
            await replica.ready()
            made = await right_ones(replica.gateway.url, HONEST, asks("llava-demo", PICTURES))
            self._console.print(f"{len(made)} of {2 * PICTURES} requests are answered right when all is well")
            for fault in self.chosen(ALONE):
                if fault.act is disk_full and disk is None:
                    self._console.print("disk full: not run, mounting a small disk takes root")
                    continue
                await self._strike(fault, replica.gateway.url, made, Stand([replica], redis, disk))
            await self._look_what_is_held(replica)
            if status := await replica.end():
                self.broken.append(f"the gateway left with {status}")

    async def behind_haproxy(self, folder: Path) -> None:
        """Attack two replicas."""
        async with AsyncExitStack() as stack:
            redis = Redis(folder / "redis")
            redis.start()
            stack.callback(redis.stop)
            behind = {"trusted_proxies": "127.0.0.1", "client_address_header": "x-forwarded-for"}
            replicas = [
                Replica(folder / name, SETTINGS | behind | {"limits_url": redis.url})
                for name in ("first", "second")
            ]
            for replica in replicas:
                stack.callback(replica.kill)
                replica.start()
            for replica in replicas:
                await replica.ready()
            url = stack.enter_context(haproxy(folder, [replica.port for replica in replicas]))
            made = await right_ones(url, HONEST, asks("llava-demo", PICTURES))
            for fault in self.chosen(BEHIND_HAPROXY):
                await self._strike(fault, url, made, Stand(replicas, redis, None))

    async def _strike(self, fault: Fault, url: str, made: list[Ask], stand: Stand) -> None:
        async with watched_memory(stand.replicas) as peak, honest_load(url, HONEST, made) as honest:
            scene = Scene(stand, honest)
            await asyncio.sleep(AROUND)
            await fault.act(scene)
            await asyncio.sleep(AROUND)
        found = (honest, scene.attacker, peak, scene.note)
        row = report.Row(fault.name, *found, excused=fault.excused, others=tuple(scene.broken))
        self.rows.append(row)
        self.broken += row.broken
        self._console.print(report.table([row]), *honest.odd, *scene.attacker.odd, scene.note, sep="\n")

    async def _look_what_is_held(self, replica: Replica) -> None:
        await asyncio.sleep(2)
        left = {name: await metric(replica.gateway, name) for name in GAUGES}
        if any(left.values()):
            self.held = ", ".join(f"{value:g} {name}" for name, value in left.items() if value)
            self.broken.append(f"something is still held: {self.held}")
        else:
            self.held = "no queue permit and no memory for requests, and its queue was empty"


@asynccontextmanager
async def _folder(name: str) -> AsyncIterator[Path]:
    with TemporaryDirectory(prefix=f"chaos-{name}-") as folder:
        yield Path(folder)


async def _run(chaos: Chaos) -> None:
    if chaos.chosen(ALONE):
        async with _folder("alone") as folder:
            await chaos.alone(folder)
    if chaos.chosen(BEHIND_HAPROXY):
        async with _folder("haproxy") as folder:
            await chaos.behind_haproxy(folder)


def main(
    only: Annotated[str, typer.Option(help="Run the faults whose names match.")] = "",
    write: Annotated[
        bool, typer.Option("--write", help="Write docs/reports/chaos.md, or the rows run.")
    ] = False,
) -> None:
    """Run load with all faults in turn, print one table, and write the page if asked to."""
    console = Console(width=200, highlight=False)
    began, load_before = monotonic(), os.getloadavg()[0]
    chaos = Chaos(console, only)
    asyncio.run(_run(chaos))
    seconds = monotonic() - began
    console.print(report.table(chaos.rows))
    console.print(f"{seconds:.0f} s; held at the end: {chaos.held}")
    if write:
        beside = (
            f"Others used the machine at the same time (load average {load_before:.1f} before the start)."
            if load_before > BUSY
            else "Nothing else ran on it."
        )
        told = report.page(chaos.rows, seconds=seconds, held=chaos.held, beside=beside)
        PAGE.write_text(report.replaced(PAGE.read_text(), chaos.rows) if only else told)
    for what in chaos.broken:
        console.print(f"[bold red]broken[/bold red] {what}")
    if chaos.broken:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
