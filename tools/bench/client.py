"""The load client: one process for all rounds, which builds every body before anything is measured."""

import asyncio
import gc
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from time import perf_counter
from typing import Any, Self

import uvloop

from tools.bench.figures import Measured
from tools.bench.load import measure
from tools.bench.workloads import WORKLOADS, Plan


class ClientFailed(Exception):
    """The client's process raised; the message is what it raised."""


class LoadClient:
    """A handle on the client's process. Commands are done in the order in which they are given."""

    def __init__(self, model: str, *, quick: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_obey, args=(theirs, model, quick), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def prepare(self, names: Sequence[str]) -> float:
        """Build all bodies of the workloads `names`; return how long it took, in seconds."""
        took: float = self._call("prepare", list(names))
        return took

    def run(self, name: str, port: int) -> Measured:
        """Warm the server on `port` up with workload `name`, then measure it."""
        measured: Measured = self._call("run", (name, port))
        return measured

    def _call(self, command: str, argument: Any) -> Any:
        self._pipe.send((command, argument))
        result = self._pipe.recv()
        if isinstance(result, Exception):
            raise ClientFailed(f"{command} {argument}: {result!r}") from result
        return result


def _obey(pipe: Pipe, model: str, quick: bool) -> None:
    plans: dict[str, Plan] = {}

    def prepare(names: list[str]) -> float:
        began = perf_counter()
        for name in names:
            size = WORKLOADS[name].size
            plans[name] = WORKLOADS[name].make(model, size.quick if quick else size.full)
        # What was built stays: the collector must not walk it in the middle of a measurement.
        gc.collect()
        gc.freeze()
        return perf_counter() - began

    def run(name_and_port: tuple[str, int]) -> Measured:
        name, port = name_and_port
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(plans[name], port))

    commands: dict[str, Callable[[Any], Any]] = {"prepare": prepare, "run": run}
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            command, argument = pipe.recv()
            try:
                pipe.send(commands[command](argument))
            except Exception as error:  # noqa: BLE001  # told to the process that asked
                pipe.send(RuntimeError(repr(error)))
