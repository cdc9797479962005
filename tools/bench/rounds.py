"""Runs the rounds: ours, vLLM's, ours, vLLM's, …, each started afresh; the engine alone after each pair."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from engine_config import profile as profiles
from tools.bench import offline, processes, servers, stages
from tools.bench.client import LoadClient
from tools.bench.report import Results


class Rounds:
    """One comparison. Figures go to `results`, the processes' output to `folder`."""

    def __init__(
        self, profile: str, workloads: Sequence[str], folder: Path, console: Console, *, quick: bool
    ) -> None:
        self.results = Results(profile, quick)
        self._workloads = workloads
        self._folder = folder
        self._console = console

    def run(self, rounds: int, *, engine: bool, sample: bool) -> Results:
        """Run `rounds` rounds: with `engine` the engine alone too, with `sample` one more under py-spy."""
        results = self.results
        model = profiles.load(results.profile).served_name
        with LoadClient(model, quick=results.quick) as client:
            took = client.prepare(self._workloads)
            self._console.print(f"made the pictures and bodies in {took:.0f} s")
            for number in range(1, rounds + 1):
                for name in servers.NAMES:
                    self._serve(client, name, f"round {number} of {rounds}")
                if engine:
                    self._engine_alone()
            if sample:
                for name in servers.NAMES:
                    self._sample(client, name)
        return results

    def _serve(self, client: LoadClient, name: str, label: str) -> None:
        results = self.results
        with servers.running(name, results.profile, self._folder / f"{name}.log") as server:
            results.start_seconds.setdefault(name, []).append(server.start_seconds)
            self._console.print(f"{label}: {name} is ready after {server.start_seconds:.0f} s")
            for workload in self._workloads:
                with processes.cores(server.pid) as busy:
                    measured = client.run(workload, server.port)
                results.cores.setdefault(workload, {}).setdefault(name, []).append(busy)
                getattr(results, name).setdefault(workload, []).append(measured)
                self._console.print(
                    f"  {workload:12} {measured.seconds:6.1f} s "
                    + " ".join(f"{figure}={value:.4g}" for figure, value in measured.figures.items())
                )

    def _engine_alone(self) -> None:
        names = [name for name in self._workloads if name in offline.MEASURED]
        if not names:
            return
        for name, rate in offline.run(self.results.profile, names, self._folder).items():
            self.results.engine.setdefault(name, []).append({"requests_per_s": rate})
            self._console.print(f"  {name:12} the engine alone: {rate:.4g} requests/s")

    def _sample(self, client: LoadClient, name: str) -> None:
        # A round of its own, counted nowhere: a process that is looked at is slower.
        with servers.running(name, self.results.profile, self._folder / f"{name}-sampled.log") as server:
            for workload in self._workloads:
                out = self._folder / f"{name}-{workload}.stacks"
                with stages.sampled(server.pid, out):
                    client.run(workload, server.port)
                seconds = stages.read(out.read_text().splitlines())
                self.results.stages.setdefault(workload, {})[name] = seconds
